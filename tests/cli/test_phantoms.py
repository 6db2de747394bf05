def test_phantoms_are_written_and_said_in_words(call, tmp_path):
    done = call("phantoms", "write", "out", "--cases", 3, "--size", 64, "--vendors", "Birch, alder")
    assert done.status == 0
    assert "3 studies of 2 hospitals" in done.out and "labels.csv" in done.out
    assert (tmp_path / "out" / "labels.csv").is_file()


def test_phantoms_as_json(call):
    words = ("phantoms", "write", "out", "--kind", "ct", "--cases", 1, "--size", 64, "--json")
    assert call(*words).json["sites"] == {"ashby": 1}
    assert call(*words).json["code"] == "E002"
