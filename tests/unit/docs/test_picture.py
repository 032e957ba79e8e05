"""The picture is made from its table, and texts fit into their boxes."""

from xml.etree import ElementTree

from docs.picture import BOXES, HEIGHT, LINE, PAGE, WIDTH, picture


def test_the_picture_is_what_the_table_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == picture(), "run: make docs"
    ElementTree.fromstring(picture())


def test_texts_fit_into_their_boxes() -> None:
    for box in BOXES:
        assert box.x >= 0
        assert box.x + box.width <= WIDTH
        assert box.y + box.height <= HEIGHT
        assert 24 + LINE * len(box.lines) < box.height
        # A letter of this font is about 7 pixels wide.
        assert all(7 * len(text) < box.width for text in (box.title, *box.lines))
