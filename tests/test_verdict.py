r"""Verdicts by the real math-verify in its real worker: a table of texts, hostile texts, lost workers, threads."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from explorer import verdict as module
from explorer.errors import UserError
from explorer.records import Verdict
from explorer.verdict import Judge, parse_gold

ROOT = Path(__file__).resolve().parent.parent
CORRECT, WRONG, UNJUDGED = Verdict.CORRECT, Verdict.WRONG, Verdict.UNJUDGED


@pytest.fixture(scope="module")
def judge():
    with Judge() as judge:
        yield judge


@pytest.mark.parametrize(
    ("gold", "text", "verdict"),
    [
        ("19", "12 + 7 = 19", CORRECT),
        ("19", "The total is 19 apples.", CORRECT),
        ("19", "19.", CORRECT),
        ("19", "$19", CORRECT),
        ("19", r"\$19.00", CORRECT),
        ("19", "The answer is **19**.", CORRECT),
        ("19", "12 + 7 = 18", WRONG),
        ("19", "12 + 7", UNJUDGED),
        ("19", "I do not know.", UNJUDGED),
        ("19", "", UNJUDGED),
        ("19", r"\boxed{19}", CORRECT),
        ("19", r"\boxed{19 apples}", CORRECT),
        ("19", r"\boxed{12 + 7 = 19}", CORRECT),
        ("19", r"\boxed{12 + 7}", UNJUDGED),
        ("50", r"\boxed{20% of 50}", UNJUDGED),
        ("3/4", r"\boxed{2/3 of 9}", UNJUDGED),
        ("10", "The answer is 20% of 50 = 10.", CORRECT),
        ("120", "The answer is 2 hours = 120 minutes.", CORRECT),
        ("19", r"\boxed{18} no, \boxed{19}", CORRECT),
        ("19", r"\boxed{19} no, \boxed{18}", WRONG),
        ("19", r"It is 19, so \boxed{1", UNJUDGED),
        ("19", r"\boxed{nineteen}", UNJUDGED),
        ("19", r"\boxed{}", UNJUDGED),
        ("19", r"\boxed{1/0}", UNJUDGED),
        ("1,200", "It is 1200.", CORRECT),
        ("1200", "It is 1,200 people", CORRECT),
        ("$12", "12 dollars", CORRECT),
        ("12", "It costs $12.", CORRECT),
        ("-3.5", "x = -3.5", CORRECT),
        ("-3.5", "x = 3.5", WRONG),
        ("-3", "5 - 8 = −3", CORRECT),
        ("7.50", "She pays $7.5", CORRECT),
        ("42%", "The answer is 42%.", CORRECT),
        ("42%", "The answer is 42.", CORRECT),
        ("42%", "The answer is 0.42.", CORRECT),
        ("42%", "The answer is 43%.", WRONG),
        ("3/4", r"The answer is $\frac{3}{4}$.", CORRECT),
        ("3/4", "0.75", CORRECT),
        ("3/4", "6/8", CORRECT),
        ("3/4", "4/3", WRONG),
        (r"\frac{3}{4}", "The answer is 3/4.", CORRECT),
        ("0.75", "3/4", CORRECT),
        ("3", "12/4 is left", CORRECT),
        ("1 1/2", "It takes 1.5 hours", CORRECT),
        ("1.5", "It takes 1 1/2 hours", CORRECT),
        (r"\sqrt{2}", r"The answer is $\sqrt{2}$.", CORRECT),
        (r"\sqrt{2}", "The answer is √2.", CORRECT),
        (r"\sqrt{2}", "The answer is 1.5.", WRONG),
        ("x^2+1", "The answer is 1 + x^2.", CORRECT),
        ("x^2+1", "The answer is 1 + x^3.", WRONG),
        ("2x + 3", "so f(x) = 3 + 2x", CORRECT),
        ("x = 3", "x = 3", CORRECT),
        (r"2\pi", "The answer is 2π.", CORRECT),
        ("300000", r"3 \times 10^5", CORRECT),
        ("12 apples", "12", CORRECT),
        ("24", r"\boxed{24 \text{ cm}^2}", CORRECT),
        ("576", r"\boxed{24 \text{ cm}^2}", WRONG),
        (r"24 \text{ cm}^2", "The area is 24 cm^2.", CORRECT),
        ("24", "The answer is 24 m².", CORRECT),
        ("24x^2", r"\boxed{24 x^2}", CORRECT),
        ("24", r"\boxed{24 x^2}", WRONG),
        ("12", "The answer is not 12.", UNJUDGED),
        ("12", "The answer cannot be 12.", UNJUDGED),
        ("12", "The answer isn't 12.", UNJUDGED),
        ("12", "The answer isn't 12, it's 19.", WRONG),
        ("12", "The answer is 12!", CORRECT),
        ("12!", "The answer is 12!", CORRECT),
        ("120", "The answer is 5!", CORRECT),
        ("120", "The answer is 6!", WRONG),
        ("120", "The answer is 99999999999!", WRONG),
        ("-3", "The answer is - 3", CORRECT),
        ("3", "The answer is - 3", WRONG),
        ("(3,4)", "The answer is (3, 4).", CORRECT),
        ("(3,4)", "The answer is (4, 3).", WRONG),
        ("(3,4)", "The answer is 5.", WRONG),
        ("[1,2]", "The answer is [1, 2]", CORRECT),
        ("1,2,3", "The answer is 1, 2, 3.", CORRECT),
        ("1,2,3", "The answers are 1, 2 and 3.", CORRECT),
        ("1,2,3", "The answers are 1, 2 and 4.", WRONG),
        ("1,2,3", "x = 1, 2, 3", UNJUDGED),
        ("1,2,3", "The answers are 1, 2 and 3 apples.", UNJUDGED),
        ("2:3", "The ratio is 2:3.", CORRECT),
        ("2:3", "The ratio is 3:2.", WRONG),
        ("2:3", "The ratio is 2 to 3.", UNJUDGED),
        ("1234", "The answer is (1,234).", CORRECT),
        ("12", "The correct answer is C, 12.", CORRECT),
        ("42", "Answer: 42, D", CORRECT),
        ("0.5", "The answer is 1/2, 50%.", CORRECT),
        ("12", "The answer is: - 12 apples", CORRECT),
        ("5", "Since x ≠ 0 ⇒ x = 5", CORRECT),
        ("2:30", "The answer is 1:15.", WRONG),
        ("2:30", "The answer is 02:30.", CORRECT),
        ("2:30 pm", r"\boxed{2:30}", CORRECT),
        ("10:15", "The answer is 2:3.", CORRECT),
        # A power of m is a unit's, unless the gold answer makes m a variable.
        ("3m^2", "The answer is 3m^2.", CORRECT),
        ("3m^2", "The answer is $3 m²$.", CORRECT),
        ("3m^2", "The answer is 3m^3.", WRONG),
        ("3m^2", "The answer is 3.", WRONG),
        ("9m^2", r"\boxed{9m^2}", CORRECT),
        ("9m^2", r"\boxed{9 m^{2}}", CORRECT),
        ("9m^2", r"\boxed{9m^3}", WRONG),
        ("9m^2", r"\boxed{x = 9m^2}", CORRECT),
        ("24", "The area is 24m^2.", CORRECT),
        ("24 m^2", "The area is 24m^2.", CORRECT),
        ("100!", "The answer is 100!", CORRECT),
        ("100!", "The answer is 100", WRONG),
        ("100!", "The answer is 101!", WRONG),
        ("19", "<script>alert(19)</script>", CORRECT),
        ("19", "é ½ \ud800 \x00 = 19", CORRECT),
    ],
)
def test_verdicts(judge, gold, text, verdict):
    judgement = judge.judge(gold, text)
    assert judgement.verdict is verdict, judgement
    assert judgement.reason.endswith(".")
    if verdict is not UNJUDGED:
        assert judgement.answer in text


def test_reasons_tell_unjudged_apart(judge):
    says = {
        "It states no answer": "no idea",
        "never closed": r"\boxed{1",
        "without working it out": r"\boxed{12 + 7}",
        "can't be read": r"\boxed{nineteen}",
    }
    for reason, text in says.items():
        assert reason in judge.judge("19", text).reason
    assert "gold answer can't be read" in judge.judge("nobody knows", "19").reason
    assert "is not the gold answer" in judge.judge("19", "18").reason


def test_the_order_of_gold_and_answer_matters(judge):
    # math-verify lets an answer name the variable that the gold value is for, and not every relation the other way.
    assert judge.judge("3", r"\boxed{x = 3}").verdict is CORRECT
    assert judge.judge("(1, 2)", r"\boxed{(1, 2)}").verdict is CORRECT
    assert judge.judge("(1, 2)", r"\boxed{(2, 1)}").verdict is WRONG


def test_a_text_cut_off_inside_its_answer_is_unjudged(judge):
    assert judge.judge("19", "12 + 7 = 1", cut_off=True).verdict is UNJUDGED
    assert "cut off" in judge.judge("19", "12 + 7 = 19", cut_off=True).reason
    assert judge.judge("19", "12 + 7 = 19 apples", cut_off=True).verdict is CORRECT
    assert judge.judge("19", r"\boxed{19}", cut_off=True).verdict is CORRECT
    assert judge.judge("19", "12 + 7 = 1").verdict is WRONG


@pytest.mark.parametrize(
    ("gold", "text", "cut_off", "verdict"),
    [
        ("12.50", "The answer is $12.", True, UNJUDGED),
        ("12.50", "The answer is $12.", False, WRONG),
        ("12", "The answer is **12.", True, UNJUDGED),
        ("1200", "The answer is 1,", True, UNJUDGED),
        ("1200", "The answer is 1,2", True, UNJUDGED),
        ("5", "The answer is 5!", True, UNJUDGED),
        ("1200", "So there are 1,", True, UNJUDGED),
        ("1200", "The answer is 1,", False, WRONG),
        ("1200", "The answer is $1{,", True, UNJUDGED),
        ("1200", "The answer is $1\\", True, UNJUDGED),
        # Whatever else follows ends the number.
        ("12", "The answer is 12. ", True, CORRECT),
        ("12", "The answer is 12.\n", True, CORRECT),
        ("12", "The answer is 12, ", True, CORRECT),
        ("12", "The answer is 12. So", True, CORRECT),
        ("12", "The answer is 12 apples.", True, CORRECT),
        ("12", "The answer is $12$.", True, CORRECT),
        ("12%", "The answer is 12%.", True, CORRECT),
        ("12", r"\boxed{12}.", True, CORRECT),
        ("19", "The answer is 19. I like 3.", True, CORRECT),
    ],
)
def test_a_mark_at_the_end_of_a_cut_off_text_may_go_on_as_a_number(judge, gold, text, cut_off, verdict):
    judgement = judge.judge(gold, text, cut_off=cut_off)
    assert judgement.verdict is verdict
    assert ("cut off" in judgement.reason) is (verdict is UNJUDGED)


HOSTILE_IN_TIME = [
    "9**9**9**9", "9" * 50_000, "\\boxed{" * 1000, "\\boxed{" * 1000 + "}" * 999, "(" * 3000 + "1" + ")" * 3000,
    r"\boxed{" + "(" * 3000 + "1" + ")" * 3000 + "}", r"\boxed{" + r"\sqrt{" * 100 + "2" + "}" * 100 + "}",
    r"\boxed{" + "-" * 1500 + "1}", r"\boxed{100000!}", "1 + " * 50_000, "\x00" * 10_000, "= " * 50_000, "x" * 500_000,
    r"\boxed{\input{/etc/passwd}}", r"\boxed{__import__('os').system('true')}", '"}\n{"op": "gold"}',
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE_IN_TIME, ids=range(len(HOSTILE_IN_TIME)))
def test_hostile_texts_never_count_as_correct_and_the_worker_lives_on(judge, text):
    worker = judge._process
    # They take up to a second of an idle machine's time; a loaded one needs a multiple of the usual limit.
    assert judge.judge("19", text, timeout_s=60).verdict is not CORRECT
    assert judge.judge("19", "19").verdict is CORRECT
    assert worker is None or judge._process is worker


@pytest.mark.parametrize("text", [r"\boxed{9^{9^{9^9}}}", r"\boxed{99999999999!}", r"\boxed{(x+1)^{99999}}"])
def test_a_late_check_is_stopped_and_the_next_one_works(judge, text):
    judge.judge("19", "19")
    worker = judge._process
    started = time.perf_counter()
    judgement = judge.judge("19", text, timeout_s=0.5)
    assert time.perf_counter() - started < 5
    assert judgement.verdict is UNJUDGED
    assert judgement.answer is None
    assert "longer than 0.5 s" in judgement.reason
    assert worker.poll() is not None  # killed, not left running
    assert judge.judge("19", "19").verdict is CORRECT


def test_a_worker_that_died_is_replaced(judge):
    judge.judge("19", "19")
    judge._process.kill()
    judge._process.wait()
    assert judge.judge("19", "19").verdict is CORRECT


def test_a_worker_that_dies_while_it_checks_is_unjudged(judge, monkeypatch):
    judge.judge("19", "19")
    worker, get = judge._process, judge._replies.get
    # Asked for once the question is sent.
    monkeypatch.setattr(judge._replies, "get", lambda timeout: (worker.kill(), get(timeout=timeout))[-1])
    judgement = judge.judge("19", r"\boxed{9^{9^{9^9}}}", timeout_s=20)
    assert judgement.verdict is UNJUDGED
    assert "broke off" in judgement.reason
    assert judge.judge("19", "19").verdict is CORRECT


def test_threads_share_one_judge(judge):
    wrong = []

    def work(number):
        for i in range(20):
            judgement = judge.judge(str(number), f"{number} + 0 = {number + i % 2}")
            if judgement.verdict is not (WRONG if i % 2 else CORRECT):
                wrong.append((number, i, judgement))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(10, 16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_judge_many_and_close():
    judge = Judge()
    assert judge._process is None  # lazy
    assert [j.verdict for j in judge.judge_many("19", ["19", "18", "none"])] == [CORRECT, WRONG, UNJUDGED]
    worker = judge._process
    judge.close()
    judge.close()
    assert worker.poll() is not None
    assert judge.judge("19", "19").verdict is CORRECT  # starts anew
    judge.close()


@pytest.mark.parametrize(
    "answer",
    ["12", "1,200", "-3.5", "+5", "$12", "$12.50", "42%", "3/4", "1 1/2", r"\frac{3}{4}", r"\sqrt{2}", "x^2+1",
     "12 apples", r"$\frac{1}{2}$", r"\(3\)", "x", r"\pi", "(1, 2)", "1" * 400],
)  # fmt: skip
def test_gold_answers_that_can_be_read(answer):
    assert parse_gold(answer) is None


@pytest.mark.parametrize(
    "answer",
    ["", "  ", "hello", "yes", r"\text{yes}", "nineteen", r"\frac{", "?", "-", "12 or 13", "3 4", "1/0", "<script>",
     "{" * 300, "1" * 501, "\x00", r"\boxed{", "😀"],
)  # fmt: skip
def test_gold_answers_that_are_refused(answer):
    with pytest.raises(UserError) as caught:
        parse_gold(answer)
    assert str(caught.value).endswith(".")
    assert len(str(caught.value)) < 220


def test_a_gold_answer_nobody_can_compute_is_refused(judge):
    with pytest.raises(UserError, match="can't be read"):
        judge.parse_gold("9^{9^{9^9}}", timeout_s=0.5)


def test_it_works_from_any_folder(tmp_path):
    code = (
        "from explorer.verdict import Judge\nimport os\nos.chdir(os.sep)\n"
        "with Judge() as judge:\n    print(judge.judge('19', '19').verdict.value)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{code}"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert run.stdout.strip() == "correct"


def test_the_worker_ends_when_its_parent_does():
    worker = subprocess.Popen(
        [sys.executable, "-m", "explorer.verdict"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert json.loads(worker.stdout.readline()) == {"ready": True}
    worker.stdin.close()  # what the system does when the parent is gone
    assert worker.wait(timeout=10) == 0
    worker.stdout.close()


def test_a_checker_that_can_not_start_is_one_sentence(monkeypatch):
    monkeypatch.setattr(module.sys, "executable", "/bin/false")
    with pytest.raises(UserError, match="could not start"):
        Judge().judge("19", "19")
