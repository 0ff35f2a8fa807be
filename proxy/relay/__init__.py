"""The data plane of one worker: DNS, UDP sessions and TCP over one epoll set."""
