import pytest

from hospitium.errors import DataError
from hospitium.imaging.sources.tables import Columns, choose_columns, read_table


@pytest.fixture
def table(tmp_path):
    def make(text: str | bytes):
        path = tmp_path / "labels.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_table(path)

    return make


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_dialects_of_spreadsheets_are_understood(table, mark, encoding):
    text = f"image{mark} label \r\n a.png{mark}Émphysème\r\n\r\n"
    found = table(text.encode(encoding))
    assert found.names == ("image", "label")
    assert found.rows == [("a.png", "Émphysème")]
    assert found.notes == (("encoding_assumed",) if encoding == "cp1252" else ())


def test_quoted_fields_may_hold_the_delimiter_and_line_breaks(table):
    found = table('image,label\n"a,b.png","two\nlines"\n')
    assert found.rows == [("a,b.png", "two\nlines")]


def test_rows_of_another_length_are_counted(table):
    found = table("image,label\na.png,1\nb.png\nc.png,1,2\n")
    assert (len(found.rows), found.num_bad_rows) == (1, 2)


def test_nameless_and_repeated_columns_get_names(table):
    assert table(",image,label,label\n0,a,1,2\n").names == ("column_1", "image", "label", "label_4")


def test_usual_names_are_found_whatever_their_case_and_spaces(table):
    found = choose_columns(
        table("Image Index,Finding Labels,Patient ID,Hospital,Fold\na,b,c,d,e\n"), Columns()
    )
    assert found == {"image": 0, "label": 1, "subject": 2, "site": 3, "split": 4}


def test_a_named_column_wins_over_a_usual_name(table):
    found = choose_columns(table("file,image,y,label\na,b,c,d\n"), Columns(image="file", label="Y"))
    assert found == {"image": 0, "label": 2}


def test_a_wrong_name_is_told_with_the_nearest(table):
    with pytest.raises(DataError, match=r'no column "diagnose".*Did you mean "diagnosis"'):
        choose_columns(table("file,diagnosis\na,b\n"), Columns(label="diagnose"))


def test_a_table_without_labels_says_which_names_are_looked_for(table):
    with pytest.raises(DataError, match="no label column among"):
        choose_columns(table("image,colour\na,b\n"), Columns())


@pytest.mark.parametrize("text", ["", "image,label\n", "\n\n"])
def test_an_empty_table_is_refused(table, text):
    with pytest.raises(DataError, match="expected a head line"):
        table(text)


@pytest.mark.parametrize("text", ["a,b\n{},1\n", "a,{}\n1,2\n"])
def test_a_field_of_more_than_any_table_has_is_said(table, text):
    with pytest.raises(DataError, match="not a CSV table"):
        table(text.format("x" * 200_000))
