"""`steelyard demo`: embedded servers, a real daemon in front of them, clients that count their losses."""
