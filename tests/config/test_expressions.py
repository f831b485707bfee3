"""The grammar of expressions, and the parts that are built from them."""

import sys
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cyclegan.config.errors import UserError
from cyclegan.config.expressions import Term, nearest, parse, parse_one
from cyclegan.config.parts import build, refuse_import_paths

TABLE = {
    "l1": "torch.nn.L1Loss",
    "huber": "torch.nn.HuberLoss",
    "fraction": "fractions.Fraction",
    "dict": "builtins.dict",
}


def refusal(expression: str) -> str:
    with pytest.raises(UserError) as caught:
        parse(expression, option="cycle")
    return str(caught.value)


@pytest.mark.parametrize(
    ("expression", "terms"),
    [
        ("l1", [Term("l1")]),
        ("10*l1", [Term("l1", 10)]),
        (" .5 * l1 ", [Term("l1", 0.5)]),
        ("0*l1", [Term("l1", 0)]),
        ("1e3*l1", [Term("l1", 1000)]),
        ("10*l1 + ssim(window=7)", [Term("l1", 10), Term("ssim", 1, {"window": 7})]),
        ("l1 + l2 + 3*l4", [Term("l1"), Term("l2"), Term("l4", 3)]),
        ("torch.nn.HuberLoss(delta=0.5)", [Term("torch.nn.HuberLoss", 1, {"delta": 0.5})]),
        ("f(a=-1, b='x', c=[1, (2,)])", [Term("f", 1, {"a": -1, "b": "x", "c": [1, (2,)]})]),
        (
            "f(norm=batch, on=true, off=False)",
            [Term("f", 1, {"norm": "batch", "on": True, "off": False})],
        ),
        ("f(a=None)", [Term("f", 1, {"a": None})]),
        ("none", []),
        (" None ", []),
    ],
)
def test_an_expression_becomes_its_terms(expression, terms):
    assert list(parse(expression, option="cycle")) == terms


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os')",
        "__import__",
        'l1(a=__import__("os").system("x"))',
        'l1(a=open("/etc/passwd"))',
        "l1.__class__",
        "l1.__class__.__bases__",
        "l1.\uff3f\uff3fclass\uff3f\uff3f",  # full-width underscores, which Python makes plain
        "l1()()",
        "l1[0]",
        "(lambda: l1)()",
        "l1 if l2 else l3",
        "[l1 for l1 in l2]",
        "await l1",
        "l1(a=b.c)",
        "l1(a=f'{b}')",
        "l1(a=(b:=3))",
        "l1(a=1+2)",
        "l1(a={**b})",
        "l1(*a)",
        "l1(**a)",
        "l1(3)",
        "l1(a=1, a=2)",
        "l1 l2",
        "l1; l2",
        "l1 - l2",
        "l1 * 10",
        "2 * (l1 + l2)",
        "2 * 3 * l1",
        "10",
        "'l1'",
        "l1 +",
        "l1(a=1",
        "l1\0",
        '"',
        "\u00e9*l1",
        "\U0001f600",
    ],
)
def test_text_outside_the_grammar_is_refused(expression):
    message = refusal(expression)
    assert message.startswith(f'--cycle "{expression}"')


@pytest.mark.parametrize(
    "weight", ["-1", "nan", "inf", "1e999", "1j", "True", "10**9", "'10'", "1" * 400, "1" * 5000]
)
def test_a_weight_is_a_finite_number_from_zero_up(weight):
    assert "--cycle" in refusal(f"{weight}*l1")


@pytest.mark.parametrize(
    "expression",
    [
        "(" * 3000 + "l1" + ")" * 3000,
        "-" * 5000 + "1*l1",
        "l1(a=" + "[" * 5000 + "]" * 5000 + ")",
        "l1(a=" + "-" * 500 + "1)",
        "+".join(["l1"] * 5000),
        "l1(a=" + "9" * 5000 + ")",
    ],
    ids=["brackets", "signs", "lists", "signs in a value", "sums", "digits"],
)
def test_an_expression_too_deep_or_too_long_is_refused_without_a_crash(expression):
    assert "--cycle" in refusal(expression)


@pytest.mark.parametrize("expression", ["", "  "])
def test_the_error_for_an_empty_expression_suggests_none(expression):
    assert refusal(expression) == "--cycle is empty: write none for nothing"


@pytest.mark.parametrize("expression", ["10*l1 + 5*l1", "a.L1 + b.L1"])
def test_two_terms_with_one_label_are_refused(expression):
    assert "twice" in refusal(expression)


def test_an_error_names_the_wrong_part_and_its_column():
    assert "2*3 at column 6: a weight" in refusal("l1 + 2*3*l2")


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_either_read_or_refused(text):
    try:
        terms = parse(text, option="cycle")
    except UserError:
        return
    assert all(term.weight >= 0 and not term.name.startswith("_") for term in terms)


def test_a_label_is_the_last_word_of_the_name():
    assert Term("torch.nn.HuberLoss").label == "HuberLoss"


@pytest.mark.parametrize("expression", ["none", "2*resnet", "resnet + unet"])
def test_a_network_is_exactly_one_part_without_a_weight(expression):
    with pytest.raises(UserError, match="exactly one part|name a part"):
        parse_one(expression, option="generator")


def test_a_short_name_builds_the_class_in_the_table_with_its_options():
    loss = build(Term("huber", 1, {"delta": 0.5}), TABLE)
    # Inside delta half the square, outside delta * (distance - delta / 2).
    assert loss(torch.tensor([0.2]), torch.tensor([0.0])) == pytest.approx(0.5 * 0.2**2)
    assert loss(torch.tensor([3.0]), torch.tensor([0.0])) == pytest.approx(0.5 * (3 - 0.25))


def test_an_import_path_builds_as_well():
    assert isinstance(build(Term("torch.nn.MSELoss"), TABLE), torch.nn.MSELoss)


def test_a_users_part_is_found_in_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "losses_of_mine.py").write_text("class Edge:\n    size = 3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert build(Term("losses_of_mine.Edge"), TABLE).size == 3


def test_a_default_goes_only_to_a_part_that_takes_it_and_an_option_overrides_it():
    assert build(Term("fraction"), TABLE, numerator=3, width=9) == Fraction(3)
    term = Term("fraction", 1, {"numerator": 5})
    assert build(term, TABLE, numerator=3) == Fraction(5)


def test_a_part_that_takes_any_option_gets_every_default():
    assert build(Term("dict", 1, {"a": 1}), TABLE, b=2) == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("term", "sentence"),
    [
        (Term("hubert"), r"unknown hubert at column 1 \(did you mean huber\?\); known: l1, huber"),
        (Term("L1"), r"unknown L1 at column 1 \(did you mean l1\?\)"),
        (
            Term("huber", 1, {"dela": 1}),
            r"huber at column 1 has no option dela \(did you mean delta\?\)",
        ),
        (
            Term("torch.nn.L1Los"),
            r"torch.nn \(.*__init__.py\) has no L1Los \(did you mean L1Loss\?\)",
        ),
        (Term("no_such_package.Loss"), "no module no_such_package"),
        (Term("sys.path"), "sys.path is not a class or function"),
        (Term("torch.nn.Linear"), "torch.nn.Linear cannot be made: .*in_features"),
        (Term("fraction", 1, {"numerator": 1, "denominator": 0}), "fraction cannot be made"),
        (
            Term("torch.nn.Linear", 1, {"in_features": -1, "out_features": 1}),
            "torch.nn.Linear cannot be made",
        ),
    ],
)
def test_a_part_that_cannot_be_built_is_explained(term, sentence):
    with pytest.raises(UserError, match=f"--cycle: .*{sentence}"):
        build(replace(term, option="cycle"), TABLE)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("import sys\nsys.no_such_thing", r"cannot be imported: AttributeError: .* line 2\)"),
        ("1 / 0", r"cannot be imported: ZeroDivisionError: .*\(broken_of_mine.py, line 1\)"),
        ("import no_such_package", "cannot be imported: .*no_such_package"),
        ("raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
        ("def f(:", "cannot be imported: SyntaxError: "),
        ("class Edge:\n def __init__(self): {}['x']", r"Edge cannot be made: KeyError: .* line 2"),
        ("class Other: pass", r"broken_of_mine.py\) has no Edge"),
    ],
)
def test_a_users_module_that_fails_is_explained(text, sentence, tmp_path, monkeypatch):
    (tmp_path / "broken_of_mine.py").write_text(f"{text}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_of_mine", raising=False)
    with pytest.raises(UserError, match=f"--cycle: .*{sentence}") as caught:
        build(Term("broken_of_mine.Edge", option="cycle"), TABLE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"delta": "two"}, "delta=two must be a number"),
        ({"delta": True}, "delta=True must be a number"),
    ],
)
def test_a_word_in_place_of_a_number_is_refused(options, sentence):
    with pytest.raises(UserError, match=sentence):
        build(Term("huber", 1, options), TABLE)


def test_a_label_distinguishes_two_terms_of_one_name():
    terms = parse("huber + 2*huber(delta=3, label=wide)", option="cycle")
    assert [term.label for term in terms] == ["huber", "wide"]
    with pytest.raises(UserError, match=r"huber\(label=other\)"):
        parse("huber + 2*huber(delta=3)", option="cycle")


def test_an_expression_may_span_several_lines():
    assert parse("10*l1\n  + 2*huber\n", option="cycle") == parse("10*l1 + 2*huber", option="cycle")


@pytest.mark.parametrize("text", ["10*l1 # + 5*huber", "(l1)", "l1" * 2000, "l1\0"])
def test_text_that_pythons_parser_ignores_is_refused(text):
    with pytest.raises(UserError) as caught:
        parse(text, option="cycle")
    assert len(str(caught.value)) < 300


def test_an_import_path_from_a_saved_file_is_refused_before_it_is_imported(tmp_path, monkeypatch):
    mark = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass Loss: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    terms = parse("l1 + 2*evil.Loss", option="cycle")
    with pytest.raises(UserError, match="--cycle: evil.Loss is an import path.*--trust_imports"):
        refuse_import_paths(terms)
    assert not mark.exists()
    build(terms[1], TABLE)
    assert mark.exists()


def test_short_names_from_a_saved_file_are_accepted():
    refuse_import_paths(parse("l1 + 2*huber(delta=3)", option="cycle"))


def test_the_nearest_name_is_found_whatever_its_case():
    assert nearest("DIR_a", ["dir_B", "dir_A"]) == " (did you mean dir_A?)"
    assert nearest("qqqq", ["dir_B", "dir_A"]) == ""


def test_a_function_of_two_images_is_a_loss():
    loss = build(parse("torch.nn.functional.l1_loss", option="cycle")[0], {})
    assert loss(torch.tensor([1.0, 3.0]), torch.zeros(2)) == 2


@pytest.mark.parametrize("line", ["raise SystemExit(0)", "def x(:"])
def test_a_module_that_cannot_be_imported_is_one_line(line, tmp_path, monkeypatch):
    (tmp_path / "broken_part.py").write_text(line)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_part", raising=False)
    with pytest.raises(UserError, match="module broken_part cannot be imported"):
        build(parse("broken_part.Loss", option="cycle")[0], {})
