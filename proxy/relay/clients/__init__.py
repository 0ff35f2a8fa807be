"""What is known of a client: access, rate, open connections, the backend it keeps. Imports balance and stats."""
