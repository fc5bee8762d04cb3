"""Texts in a database file that several instances share, each with a connection of its own."""

import sqlite3

import corpus


class Ledger:
    def __init__(self, path):
        # No patience: who finds the file locked is told at once. No transaction but those below.
        self._db = sqlite3.connect(path, timeout=0, isolation_level=None)
        self._db.execute("CREATE TABLE IF NOT EXISTS line (entry INTEGER, content TEXT)")

    def post(self, names):
        """Enters texts and returns how many there are; sqlite3.OperationalError when locked."""
        self._db.execute("BEGIN IMMEDIATE")
        entries = self._db.execute("SELECT coalesce(max(entry), 0) FROM line").fetchone()[0]
        for entry, name in enumerate(names, entries + 1):
            self._db.executemany(
                "INSERT INTO line VALUES (?, ?)",
                ((entry, line) for line in corpus.text(name).splitlines()),
            )
        self._db.execute("COMMIT")
        return entries + len(names)

    def scan(self, term):
        """How many lines contain the term; reads every line, so many lines make it slow."""
        return self._db.execute(
            "SELECT count(*) FROM line WHERE instr(content, ?) > 0", (term,)
        ).fetchone()[0]

    def strike(self, keep):
        """Takes out all texts but the first."""
        self._db.execute("DELETE FROM line WHERE entry > ?", (keep,))

    def close_books(self):
        """From now on nobody else may write, or read."""
        self._db.execute("BEGIN EXCLUSIVE")

    def open_books(self):
        self._db.execute("COMMIT")

    def close(self):
        self._db.close()
