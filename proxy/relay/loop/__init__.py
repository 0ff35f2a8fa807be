"""The worker's loop: one edge-triggered epoll set and its timers. Imports no other room."""
