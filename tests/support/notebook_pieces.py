"""HTML for notebooks, read strictly."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """HTML that is well formed, and holds no script, no style sheet and nothing from outside."""

    def __init__(self, text):
        super().__init__()
        self.open, self.text = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert tag in {"b", "details", "div", "summary", "table", "td", "th", "tr"}
        if tag == "table":  # no text is a formula
            assert attrs == [("class", "tex2jax_ignore mathjax_ignore")]
        else:
            assert attrs in ([], [("style", "text-align:left")])
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def text_of(html):
    """Return the texts of a page, which has to be well formed."""
    return Page(html).text
