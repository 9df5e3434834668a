"""Problems whose answers a program computes: kinds of problems, their wording, documents and dialogues of them."""
