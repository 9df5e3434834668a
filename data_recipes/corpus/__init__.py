"""The miniature's corpus: installed texts, a user's folder, and generated documents, as one folder by domain."""
