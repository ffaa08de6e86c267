"""What the tests of reports share."""

import json
from html.parser import HTMLParser


class Page(HTMLParser):
    """A page as its tables, each a list of rows of texts, and its elements by their tags."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.text, self.tables, self.elements, self.open = text, [], [], []
        self.raw = {"script": [], "style": []}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("meta", "link"):
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag in self.raw:
            self.raw[tag].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in self.raw:
            self.raw[self.open[-1]][-1] += data
        elif {"td", "th"} & {*self.open}:
            self.tables[-1][-1][-1] += data

    def table(self, *head):
        """The table with these cells among those of its first two rows."""
        return next(rows for rows in self.tables if {*head} <= {cell for row in rows[:2] for cell in row})

    @property
    def charts(self):
        """The charts that the page's data has, by title."""
        return {chart["title"]: chart["series"] for chart in json.loads(self.raw["script"][0])}
