"""TCP: from accept to the last close of both sides. Imports the other rooms of the relay, but neither udp nor dns."""
