from html.parser import HTMLParser

from vae_mnist.plots import Entry, Head, WebTable, web_page

ROWS = [[Entry("a<b>"), Entry("1.5 ± 0.1", 1.5, "best & first", "best")], [Entry("c"), Entry()]]
TABLE = WebTable("few <images>", "a note", [Head("the.run", number=False), Head("loss", "nats")], ROWS, [False, True])
PAGE = web_page("A <title>", "a & note", [TABLE, TABLE], {"Words": {"<": "less"}})


class Cells(HTMLParser):
    """Cells of a page as (tag, attributes, text), and all that it refers to."""

    def __init__(self):
        super().__init__()
        self.cells, self.references, self.open = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "wbr"):
            self.open.append(tag)
        self.references += [value for name, value in attrs if name in ("src", "href")]
        if tag in ("td", "th"):
            self.cells.append((tag, dict(attrs), ""))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & {*self.open}:
            tag, attributes, text = self.cells[-1]
            self.cells[-1] = (tag, attributes, text + data)


def read(page):
    cells = Cells()
    cells.feed(page)
    cells.close()
    assert cells.open == []
    return cells


def test_cells_have_their_words_and_what_they_are_sorted_by():
    cells = read(PAGE).cells
    assert cells[:6] == [
        ("th", {}, "the.run"),
        ("th", {"class": "number"}, "lossnats"),
        ("td", {"data-value": "a<b>"}, "a<b>"),
        ("td", {"class": "number best", "data-value": "1.5"}, "1.5 ± 0.1best & first"),
        ("td", {"data-value": "c"}, "c"),
        ("td", {"class": "number", "data-value": ""}, ""),
    ]
    assert len(cells) == 12


def test_words_are_escaped():
    assert "<title>A &lt;title&gt;</title>" in PAGE
    assert "<h2>few &lt;images&gt;</h2>" in PAGE
    assert "<dt>&lt;</dt><dd>less</dd>" in PAGE
    assert "<small>best &amp; first</small>" in PAGE
    assert "a<b>" not in PAGE


def test_the_page_loads_nothing():
    assert read(PAGE).references == []
    assert not any(word in PAGE for word in ("http:", "https:", "//", "@import", "url("))


def test_families_are_set_off():
    assert PAGE.count('<tr class="family">') == 2
