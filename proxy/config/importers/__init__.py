"""Turns the files of keepalived, HAProxy and dnsdist into tables of our keys, and says what is not carried over [pure].

Imports the types and diagnostics of `proxy.config`, and nothing that reads a file: texts are passed in.
"""
