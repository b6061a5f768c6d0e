"""Of an address nothing is shown but where it is."""

import pytest

from ddit_eval.errors import DditError
from ddit_eval.study.storage import open_storage
from ddit_eval.system.secret import hidden, without_secrets

SECRETS = [
    "s3cret",
    "a/s3cret",
    "s3cret@x",
    "s3cret#x",
    "s3cret?x",
    "s3%2Fcret",
    "s3 cret",
    "x:s3cret",
    "?s3cret@/#",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "form",
    [
        "postgresql://bob9:{}@127.0.0.1:1/db",
        "mysql://h/db?user=bob9&password={}",
        "nope://bob9:{}@h/db",
        "postgresql:/bob9:{}@h/db",
        "postgresql://bob9:{}@h:x/db",
    ],
)
def test_no_message_shows_a_secret(form, secret):
    url = form.format(secret)
    why = without_secrets(f'could not connect to "{url}": no user bob9, password {secret}\nmore', url)
    with pytest.raises(DditError) as error:
        open_storage(url)
    for text in (hidden(url), why, str(error.value)):
        assert "bob9" not in text
        assert "cret" not in text
        assert "\n" not in text
    assert error.value.__suppress_context__ or error.value.__context__ is None


def test_a_short_secret_leaves_other_words_alone():
    why = without_secrets("authentication of e failed: role e (a) is \\x1", "postgresql://e:a@host/db")
    assert why == "authentication of ... failed: role ... (...) is \\x1"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://bob:pw@host:5432/db", "postgresql://host:5432/db"),
        ("postgresql://host/db?password=pw", "postgresql://host/db"),
        ("sqlite:////a/b.db", "sqlite:////a/b.db"),
        ("a/b.journal", "a/b.journal"),
    ],
)
def test_where_it_is_is_shown(url, shown):
    assert hidden(url) == shown
