"""Publishing rehearsed: to a Hub in this process, and loaded from it as a user would."""
