"""UDP by sessions, and one way by datagrams. Imports the other rooms of the relay, but neither tcp nor dns."""
