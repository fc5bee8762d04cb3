"""Lines of texts in an SQLite database, to be searched."""

import re
import sqlite3

import corpus
import host


class SqliteIndex:
    def __init__(self, texts, path=":memory:"):
        self._db = sqlite3.connect(path)
        self._db.execute("CREATE TABLE line (text TEXT, number INTEGER, content TEXT)")
        for name in texts:
            lines = corpus.text(name).splitlines()
            self._db.executemany(
                "INSERT INTO line VALUES (?, ?, ?)",
                ((name, number, line) for number, line in enumerate(lines, 1)),
            )
        self._db.commit()

    def count(self, term):
        """How many lines contain the term."""
        return self._db.execute(
            "SELECT count(*) FROM line WHERE instr(content, ?) > 0", (term,)
        ).fetchone()[0]

    def search(self, term, limit):
        """The first lines that contain the term."""
        return self._db.execute(
            "SELECT text, number, trim(content) FROM line WHERE instr(content, ?) > 0 LIMIT ?",
            (term, limit),
        ).fetchall()

    def query(self, sql):
        """Rows of any SQL; sqlite3.OperationalError when it is wrong."""
        return self._db.execute(sql).fetchmany(100)

    def cross_reference(self, term, limit):
        """Which names called beside the term exist in Elixir too; Elixir is asked for each."""
        lines = (content for _, _, content in self.search(term, 50))
        names = sorted({name for line in lines for name in re.findall(r"\.(\w+)\(", line)})
        host.set_var("last_term", term)
        return {name: host.tool("lookup", name) for name in names[:limit]}

    def close(self):
        self._db.close()
