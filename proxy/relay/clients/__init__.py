"""What is known of a client: access, rate, open connections, the backend that it keeps. Imports loop."""
