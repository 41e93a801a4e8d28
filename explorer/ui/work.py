"""What the buttons do: generators that drive the pipeline for one session and yield what changed on the screen.

They know the pipeline and what a screen is made of; they don't know which component shows what. Each yields `Screen`
values: only the fields set are redrawn. Errors meant for people end up in `notice`, never as a traceback, and
whatever was finished is saved.

What it does not do: lay out the page; the panels do.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from explorer.audit import decoy_control
from explorer.auditing import audit_run
from explorer.errors import UserError, describe
from explorer.export import rescued, right_as_a_whole, sft_rows, to_jsonl
from explorer.limits import HOME, Limits
from explorer.pipeline import Run
from explorer.problems import make_problem
from explorer.records import Problem, RevisionConfig, SamplingConfig, Start, Trace, Verdict
from explorer.split import SplitPoint, best_failed, best_preset, presets
from explorer.store import import_run, load_run, new_run_id, run_folder, save_run, zip_run
from explorer.ui.library import Opened, open_run
from explorer.ui.models import ModelHost
from explorer.ui.pump import NOT_NOW, TURN_S
from explorer.ui.screen import Drawing, Screen, info, warning
from explorer.ui.session import Session
from explorer.ui.turns import Turns
from explorer.ui.zero_gpu import lent
from explorer.verdict import Judge
from explorer.views.payloads import rollouts_payload
from explorer.views.success import curve_steps
from explorer.views.vocabulary_map import neighbourhood, start_joint_layout

# Fewer, larger updates than tokens: a screen that is redrawn more often than this looks no smoother and costs sampling
# time.
REDRAW_S = 0.15
# What draws the three starts, and may break off between them.
DRAWS = ("after", "whole", "replay")
# A chat template may name the day: a prompt of another one can be a little longer.
SPARE_TOKENS = 64
# How long a packed zip lies here after it was handed over.
PACKED_S = 600.0


class Work(Turns):
    """The actions of the page, over shared models, one judge and one folder of runs."""

    def __init__(self, host: ModelHost, judge: Judge, runs_dir: Path, limits: Limits = HOME, turn_s: float = TURN_S):
        super().__init__(turn_s)
        self.host, self.judge, self.runs_dir, self.limits = host, judge, runs_dir, limits
        self.drawing = Drawing(host)
        self._packed = tempfile.TemporaryDirectory(prefix="latentrevise-")

    def _put_away(self, session: Session) -> None:
        run = session.run
        if session.left is None or session.at_work or run is None:
            return
        try:
            opened = Opened(session.run_id, run.trace(), self._saved(session)) if run.before else None
        except OSError:
            return  # memory is all that has it
        with self._turns:
            if session.left is not None and not session.at_work and session.run is run:
                session.run, session.opened, session.planned = None, opened, None

    def _unmoved(self, session: Session) -> dict[str, Any]:
        """After a refusal: the picker moved by itself in the browser, and is told to go back to where the cut is."""
        if session.cut is None:
            return {}
        return {"rollouts": self._taken_back(session)}

    def _taken_back(self, session: Session) -> dict[str, Any]:
        """The rollouts' view, which drops the choice that the picker waits for."""
        session.refusals += 1
        return self.drawing.rollouts(session, "done") | {"refused": session.refusals}

    def _as_it_stands(self, session: Session) -> dict[str, Any]:
        """After a failure: the views show what was finished, and keep it on disk if that is possible at all."""
        if session.run is None:
            if session.opened is None:
                return {}
            return self.drawing.all(session) | {"rollouts": self._taken_back(session)}
        if not session.run.before:  # nothing to keep, and nothing that is still being sampled
            return {"rollouts": self.drawing.rollouts(session, "failed"), "watch": self.drawing.watch(session)}
        self._keep(session)
        broken_off = session.running in DRAWS and session.run.after
        return {
            "watch": self.drawing.watch(session),
            "rollouts": self._taken_back(session),
            "stage": self.drawing.stage(session),
            "compare": self.drawing.compare(session, "cancelled" if broken_off else "done"),
            "success": self.drawing.success(session, "failed" if session.running == "curve" else "idle"),
            "audit": self.drawing.audit(session),
        }

    # -- rollouts ----------------------------------------------------------------------------------

    @lent
    def sample(
        self, session: Session, problem: Problem, sampling: SamplingConfig, config: RevisionConfig
    ) -> Iterator[Screen]:
        """Sample N rollouts of a problem, then choose a failed one and lay a split for it, ready to be revised."""
        name = session.model  # should it fail to load, say so instead of going on with another one
        yield from self.await_model(session, name)
        if session.stop.is_set():
            return
        self.limits.check_runs(session.begun)
        run = Run.start(self.host.need(name), problem, sampling)
        session.begun += 1
        session.run, session.run_id, session.folder, session.opened = run, new_run_id(run.trace()), None, None
        session.names = set()
        session.chosen = session.cut = session.joint = session.rival = session.after_sampling = None
        session.presets, session.point = (), 0
        text = run.model.token_text
        yield Screen(
            rollouts=rollouts_payload(run.trace(), text, state="sampling", drafts=[[]] * sampling.n, rollouts={}),
            stage=None,
            compare=None,
            success=None,
            audit=None,
            duel=None,
            rival=None,
            notice=None,
            ending=None,
            busy="rollouts",
        )
        drawn = time.monotonic()
        for state in run.roll_out(self.judge, session.stop.is_set):
            if time.monotonic() - drawn >= REDRAW_S:
                drawn = time.monotonic()
                yield Screen(
                    rollouts=rollouts_payload(
                        run.trace(),
                        text,
                        state="sampling",
                        drafts=state.drafts,
                        rollouts=state.rollouts,
                        tokens_per_second=round(state.tokens / max(state.seconds, 1e-6), 1),
                    )
                )
        stopped = session.stop.is_set() and len(run.before) < sampling.n
        failed = [index for index, rollout in enumerate(run.before) if rollout.verdict is not Verdict.CORRECT]
        notice = None
        if stopped:
            notice = info(f"Stopped: {len(run.before)} of {sampling.n} rollouts had finished and are kept.")
        elif not failed:
            notice = info("All rollouts are correct, so there is nothing to revise: try a harder problem.")
        if failed:
            self._choose(session, best_failed(run.before, run.model.pieces))
            if session.cut is not None:  # None: even the longest is too short to cut in two
                self._restart(session, config)
        unsaved = self._keep(session)
        views = self.drawing.all(session) | {
            "rollouts": self.drawing.rollouts(session, "cancelled" if stopped else "done")
        }
        yield Screen(**views, notice=unsaved or notice, busy="")

    def await_model(self, session: Session, name: str) -> Iterator[Screen]:
        """A person may press before the model has arrived: say where it stands and begin by itself when it is there."""
        said = None
        while (entry := self.host.loading(name)).state == "loading" and not session.stop.is_set():
            share = "" if entry.progress is None else f", {100 * entry.progress:.0f} %"
            text = (
                f"Waiting for the model: {entry.message.rstrip('.')}{share}. It begins by itself; Cancel ends the wait."
            )
            if text != said:
                said = text
                yield Screen(notice=info(text), busy="rollouts")
            yield NOT_NOW
        if said is not None:
            yield Screen(notice=None, busy="")

    # -- runs from disk ----------------------------------------------------------------------------

    def open(self, session: Session, run_id: str) -> Iterator[Screen]:
        """Show a run from disk: a recorded one, or one of the folder of runs. A live one of this page stays on disk."""
        self.show(session, open_run(run_id, self.runs_dir))
        try:
            views = self.drawing.all(session)
        except Exception:
            session.opened = None  # what can't be drawn would fail again with all that comes
            raise
        yield Screen(**views, settings=session.opened.trace, notice=None, ending=None, busy="")

    def save_now(self, session: Session) -> None:
        """Bring the copy on disk of a session's run up to the step it is at: a page that was reloaded in the middle
        asks for it while the one before it still ends."""
        with contextlib.suppress(UserError, OSError):  # then what is on disk is shown
            self._between(lambda: session.run is not None and session.run.before and self._saved(session))

    def bring(self, session: Session, files: Sequence[Path]) -> Iterator[Screen]:
        """Show a run that somebody brought as a zip or as its files; it is kept in the folder of runs."""
        self.limits.check_runs(session.begun)
        session.begun += 1
        folder = import_run(files, self.runs_dir, self.limits.upload)
        try:
            yield from self.open(session, folder.name)
        except Exception:
            shutil.rmtree(folder, ignore_errors=True)  # nobody could open it later either
            raise
        session.made.insert(0, (folder.name, session.opened.title))
        yield Screen(notice=info("The run is open. It was copied into this explorer's folder of runs."))

    def show(self, session: Session, opened: Opened) -> None:
        """Put a run from disk on the session's screen, its split chosen as it was."""
        trace = opened.trace
        session.opened, session.run, session.run_id, session.folder = opened, None, "", None
        session.names = set()
        session.joint, session.rival, session.planned = None, None, None
        session.nonce += 1
        session.chosen = session.cut = None
        session.presets = ()
        if trace.problem.source == "bank":
            session.listed = trace.problem.id  # the list of problems moves to it too
        if trace.split is not None:
            chosen, m = trace.before[trace.split.rollout], len(trace.split.prefix_token_ids)
            session.chosen = trace.split.rollout
            session.presets = presets(chosen, [opened.token_text(token) for token in chosen.token_ids], chosen.answer)
            session.cut = next((p for p in session.presets if p.m == m), SplitPoint("custom", m, "Cut there by hand."))
        session.after_point = max((item.step for item in trace.after), default=0)
        session.point = 0 if opened.recorded else len(trace.steps)
        session.after_sampling = trace.after_sampling or (trace.sampling if trace.after else None)

    def against(self, session: Session, run_id: str | None) -> Iterator[Screen]:
        """Show another run beside the one on the screen, or end that."""
        rival = open_run(run_id, self.runs_dir) if run_id else None
        if rival is not None and rival.trace.split is None:
            raise UserError("That run was never split, so there is no movement to compare with.")
        session.rival = rival
        yield Screen(**self.drawing.duel(session), notice=None)

    @lent
    def replay(self, session: Session) -> Iterator[Screen]:
        """Run an opened run again from its question to its controls, and say whether the same came out."""
        opened = session.opened
        if opened is None:
            raise UserError("Open a recorded run first: there is nothing to run again.")
        old = opened.trace
        for asked in (old.problem, old.sampling, old.after_sampling or old.sampling, old.config or RevisionConfig()):
            self.limits.check(asked)
        yield from self.sample(session, old.problem, old.sampling, old.config or RevisionConfig())
        run = session.run
        if session.stop.is_set() or run is None or old.split is None:
            return
        same = [r.token_ids for r in run.before] == [r.token_ids for r in old.before]
        if same:
            self._choose(session, old.split.rollout)
            session.cut = SplitPoint("custom", len(old.split.prefix_token_ids), "As in the recorded run.")
            self._restart(session, old.config)
        elif session.cut is None:
            return  # `sample` has said why
        # Another machine may round otherwise, and then draw another token: the run goes on with what it drew.
        yield from self.revise(session, old.config, one=False)
        if session.stop.is_set() or not old.after:
            return
        session.point = min(max(item.step for item in old.after), len(run.steps))
        yield from self.after(session, old.after_sampling or old.sampling)
        decoy = next((control for control in old.controls if control.kind == "decoy"), None)
        if not session.stop.is_set() and decoy:
            yield from self.decoy(session, decoy.target)
        same = same and [s.vertices for s in run.steps] == [s.vertices for s in old.steps]
        then = [(c.start, c.token_ids) for c in old.after if c.step == session.after_point]
        same = same and then == [(c.start, c.token_ids) for c in run.after if c.step == session.after_point]
        text = (
            "Run live just now: rollouts, steps and continuations are the recorded ones, token for token."
            if same
            else "Run live just now, and it came out otherwise than recorded: "
            + (
                "another model ran it. Both are real."
                if (old.model.id, old.model.source) != (run.model.info.id, run.model.info.source)
                else "another machine, number format or version rounds differently, and one other token changes what "
                "follows. Both are real."
            )
        )
        if not session.stop.is_set():
            yield Screen(ending=info(text), busy="")

    def _take_up(self, session: Session) -> Generator[Screen, None, Run]:
        """The session's live run; an opened one is taken up first, under a new name unless it is the page's own, once
        its model is there."""
        if session.run is None and session.opened is not None:
            name = session.model
            yield from self.await_model(session, name)
            opened = session.opened
            if session.stop.is_set():
                raise UserError("Stopped before the model was there; the run is as it was.")
            self.limits.check_again(opened.trace)
            model = self.host.need(name)
            # The question's length is bounded, and a prompt that is longer than it makes one was not made of it.
            made = len(model.prompt(opened.trace.problem.question).token_ids)
            if len(opened.trace.prompt.token_ids) > made + SPARE_TOKENS:
                raise UserError("The prompt of this run is not its question's: use an undamaged copy of it.")
            run = Run.reopen(model, opened.trace, opened.trajectory())
            if session.run_id != opened.id:  # else the page's own, which was put away
                session.rename(new_run_id(opened.trace))
            session.run, session.opened = run, None
        return session.need_run()

    # -- rollouts and split ------------------------------------------------------------------------

    @lent
    def pick(self, session: Session, rollout: int, config: RevisionConfig) -> Iterator[Screen]:
        """Choose a failed rollout to revise; its split is set to the best preset."""
        run = yield from self._take_up(session)
        if not 0 <= rollout < len(run.before) or run.before[rollout].verdict is Verdict.CORRECT:
            raise UserError("Choose a rollout that failed: there is nothing to revise in a correct one.")
        self._choose(session, rollout)
        yield from self._split(session, config)

    @lent
    def cut(self, session: Session, rollout: int, m: int, name: str, config: RevisionConfig) -> Iterator[Screen]:
        """Move the split of the chosen rollout."""
        run = yield from self._take_up(session)
        if session.chosen != rollout:
            self._choose(session, rollout)
        preset = next((p for p in session.presets if p.name == name and p.m == m), None)
        session.cut = preset or SplitPoint("custom", m, "You chose this place.")
        if not 0 < m < len(run.before[rollout].token_ids):
            raise UserError("A split leaves at least one token on either side: move it inside the rollout.")
        yield from self._split(session, config)

    def _choose(self, session: Session, rollout: int) -> None:
        run = session.run
        chosen = run.before[rollout]
        session.chosen = rollout
        session.presets = presets(chosen, run.model.pieces(chosen.token_ids), chosen.answer)
        session.cut = best_preset(session.presets)

    def _split(self, session: Session, config: RevisionConfig) -> Iterator[Screen]:
        """Lay the chosen split, on disk too, since the address names it; an earlier revision stays there under its own
        name."""
        self._restart(session, config)
        unsaved = self._keep(session)
        yield Screen(**self.drawing.all(session), notice=unsaved)

    # -- revision ----------------------------------------------------------------------------------

    @lent
    def restart(self, session: Session, config: RevisionConfig) -> Iterator[Screen]:
        """Forget the steps and begin again from the prefix, with the settings as they stand now."""
        yield from self._take_up(session)
        yield from self._split(session, config)

    @lent
    def revise(self, session: Session, config: RevisionConfig, one: bool) -> Iterator[Screen]:
        """Take one step, or go on to the planned number; pausing is `session.stop`."""
        run = yield from self._take_up(session)
        if session.cut is None or session.chosen is None:
            raise UserError("Choose a failed rollout first: there is nothing to revise in a correct one.")
        notice = None
        if run.config is None or not run.steps:
            if run.config != config:
                self._restart(session, config)
        elif run.config.model_copy(update={"steps": config.steps}) != config:
            notice = info("This run goes on with the settings it began with; press “Start over” to use the new ones.")
        self.limits.check(config)
        run.plan(config.steps)
        taken = len(run.steps)
        until = taken + 1 if one else max(config.steps, taken)
        if one:
            self.limits.check_step(until)
        yield Screen(stage=self.drawing.stage(session, "running"), notice=notice, busy="revision")
        for _ in run.revise(until, session.stop.is_set):
            yield Screen(stage=self.drawing.stage(session, "running"))
        unsaved = self._keep(session)
        yield Screen(**self.drawing.all(session), busy="", notice=unsaved or notice)

    def plan(self, session: Session, steps: int) -> Screen:
        """Another K while steps stand: Play then goes on instead of replaying. Not while something runs."""
        run = session.run
        if run is None and session.opened is not None and session.opened.trace.config is not None:
            session.planned = max(steps, len(session.opened.trace.steps))
            return Screen(stage=self.drawing.stage(session))
        if run is None or run.config is None or session.running:
            return Screen()
        run.plan(steps)
        return Screen(stage=self.drawing.stage(session))

    def joint(self, session: Session) -> Iterator[Screen]:
        """Fit neighbourhood and all steps together, in a child process, with progress."""
        run = yield from self._take_up(session)
        if not run.steps:
            raise UserError("Take some steps first: there is no movement to fit yet.")
        if session.folder is None:  # just taken up: the address and every view name it from now on
            self._keep(session)
            yield Screen(**self.drawing.all(session))
        steps = len(run.steps)
        trajectory = run.trajectory()
        vertices = sorted({vertex for step in run.steps for vertex in step.vertices})
        ids = neighbourhood(run.model.vocabulary, trajectory, vertices)
        job = start_joint_layout(trajectory, run.model.vocabulary, ids)
        try:
            while (status := job.poll()).state == "building" and not session.stop.is_set():
                session.joint = {"state": "fitting", "progress": status.progress, "message": status.message}
                yield Screen(stage=self.drawing.stage(session), busy="joint")
                time.sleep(0.5)
        finally:
            job.cancel()
            session.joint = None
        if status.state == "ready":
            layout = job.result
            session.joint = {
                "state": "ready",
                "progress": 1.0,
                "message": f"Fitted over {steps} steps and {len(layout.neighbours):,} tokens.",
                "points": layout.points,
                "neighbours": layout.neighbours,
                "trustworthiness": layout.trustworthiness,
            }
        elif status.state != "building":
            session.joint = {"state": "failed", "progress": 0.0, "message": status.message}
        yield Screen(stage=self.drawing.stage(session), busy="")

    def _restart(self, session: Session, config: RevisionConfig) -> None:
        run = session.run
        if session.cut is None or session.chosen is None or session.cut.m is None:
            raise UserError("Choose a failed rollout and where its prefix ends first.")
        self.limits.check_prefix(session.cut.m)
        self.limits.check(config)
        session.rival = None
        if run.steps:
            session.rename(new_run_id(run.trace()))
            session.folder = None
        run.split_at(session.chosen, session.cut.m, config)
        session.point, session.joint, session.after_sampling = 0, None, None

    # -- after -------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _drawing_anew(
        self, session: Session, sampling: SamplingConfig, earlier: str, points: Sequence[int]
    ) -> Iterator[dict[str, dict]]:
        """What is drawn another way than what stands, or in another number than what was audited, makes another run of
        it: the `earlier` one stays on disk as it is. Where nothing came of it, all is as before. Afterwards `notice` in
        the dictionary is what there is to say."""
        run, said, folder = session.run, {}, session.folder
        was, shown = run.after_sampling, (session.after_point, session.after_sampling)
        there, controls, alike = len(run.after), len(run.controls), run.stands_beside(sampling)
        audited = run.audited(sampling.n) & set(points) if alike else set()
        renamed = (not alike or bool(audited)) and session.run_id == earlier
        if renamed:
            try:
                self._saved(session)
            except OSError as error:
                raise UserError(
                    f"The run {earlier} is not saved, and with other settings what it has would be lost: "
                    f"nothing was begun. {describe(error)}"
                ) from error
            session.rename(new_run_id(run.trace()))
            session.folder = None
        try:
            yield said
        finally:
            if run.after_sampling is was and (there or controls):
                session.after_point, session.after_sampling = shown
                if renamed:
                    session.rename(earlier)
                    session.folder = folder
                said["notice"] = info(
                    "Stopped: what was continued before stands, and nothing is kept of what was begun."
                )
            elif not alike:
                put_away = f"continuations of before ({there})" + (f" and controls ({controls})" if controls else "")
                said["notice"] = info(
                    f"Drawn with other settings, so {put_away} do not stand beside these: the run {earlier} keeps them."
                )
            elif audited - run.audited():
                steps = ", ".join(map(str, sorted(audited)))
                said["notice"] = info(
                    f"Drawn in another number, so the audit at step {steps} does not stand beside these: the run "
                    f"{earlier} keeps it."
                )

    @staticmethod
    def _cut_short(session: Session, before: SamplingConfig | None) -> bool:
        """Whether what is on the screen was stopped in its middle: not where all is as it was `before`."""
        return session.stop.is_set() and not (session.run.after and session.run.after_sampling is before)

    @lent
    def after(self, session: Session, sampling: SamplingConfig) -> Iterator[Screen]:
        """Sample continuations from the step on screen, its projection and the unrevised prefix, at one budget."""
        earlier = session.shown_id
        run = yield from self._take_up(session)
        if not run.steps:
            raise UserError("Take some steps first: there is nothing revised to continue from yet.")
        before = run.after_sampling
        point = max(0, min(session.point, len(run.steps)))
        with self._drawing_anew(session, sampling, earlier, [point]) as said:
            session.after_point = point
            session.after_sampling = sampling
            yield Screen(
                compare=self.drawing.compare(session, "sampling"),
                notice=None,
                busy="after",
                stage=self.drawing.stage(session),
            )
            drawn = 0.0
            for start, state in run.continue_from(self.judge, point, sampling, cancelled=session.stop.is_set):
                if time.monotonic() - drawn >= REDRAW_S:
                    drawn = time.monotonic()
                    yield Screen(
                        compare=self.drawing.compare(session, "sampling", start, state.drafts, dict(state.rollouts))
                    )
        unsaved = self._keep(session)
        state = "cancelled" if self._cut_short(session, before) else "done"
        views = self.drawing.all(session) | {"compare": self.drawing.compare(session, state)}
        yield Screen(**views, busy="", notice=unsaved or said.get("notice"))

    @lent
    def curve(self, session: Session, sampling: SamplingConfig) -> Iterator[Screen]:
        """Continuations from up to six steps, the unrevised prefix (step 0) among them, at one budget: from which step
        on is the prompt solvable?"""
        earlier = session.shown_id
        run = yield from self._take_up(session)
        if not run.steps:
            raise UserError("Take some steps first: there is nothing to compare over steps yet.")
        before = run.after_sampling
        points = curve_steps(len(run.steps))
        with self._drawing_anew(session, sampling, earlier, points) as said:
            session.after_sampling = sampling
            yield Screen(stage=self.drawing.stage(session))  # it may have another name by now
            drawn = 0.0
            for point in points:
                where = {"running": point, "planned": points, "sampling": sampling}
                yield Screen(
                    success=self.drawing.success(session, "sampling", done=0, **where), notice=None, busy="curve"
                )
                for _, state in run.continue_from(
                    self.judge, point, sampling, (Start.REVISED,), cancelled=session.stop.is_set
                ):
                    if time.monotonic() - drawn >= REDRAW_S:
                        drawn = time.monotonic()
                        done = len(state.rollouts)
                        yield Screen(success=self.drawing.success(session, "sampling", done=done, **where))
                if session.stop.is_set():
                    break
        there = {item.step for item in run.after}
        if session.after_point not in there:  # what is compared is of this run, too
            session.after_point = max(there, default=0)
        state = "cancelled" if self._cut_short(session, before) else "idle"
        views = self.drawing.all(session) | {"success": self.drawing.success(session, state)}
        yield Screen(**views, busy="", notice=self._keep(session) or said.get("notice"))

    @lent
    def decoy(self, session: Session, target: str | None = None) -> Iterator[Screen]:
        """The control by a wrong answer, at the step and budget of the comparison on the screen."""
        run = yield from self._take_up(session)
        sampling = session.after_sampling
        if sampling is None or not any(item.step == session.after_point for item in run.after):
            raise UserError("Continue from a step first: the control is compared with what that found.")
        yield Screen(stage=self.drawing.stage(session))  # taken up just now, it has another name
        said = None
        if target:  # as a gold answer would be checked
            target = make_problem(run.problem.question, target).answer
        for state in decoy_control(run, self.judge, session.after_point, sampling, target or None, session.stop.is_set):
            text = f"Decoy control: revising toward the wrong answer {state.target}, step {state.steps} of {state.of}."
            if state.sampling is not None:
                text = (
                    f"Decoy control: continuing, {len(state.sampling.rollouts)} of {state.sampling.n} finished, "
                    f"{state.sampling.tokens} tokens."
                )
            if text != said:
                said = text
                yield Screen(notice=info(text), busy="decoy")
        stopped = (
            info("Stopped: of a control that was not finished nothing is kept.") if session.stop.is_set() else None
        )
        yield Screen(**self.drawing.all(session), busy="", notice=self._keep(session) or stopped)

    @lent
    def audit(self, session: Session) -> Iterator[Screen]:
        """All controls that the run lacks, at the step and budget of its last comparison, then its leaks; each is saved
        when it is finished."""
        run = yield from self._take_up(session)
        yield Screen(**self.drawing.all(session) | {"audit": self.drawing.audit(session, "running")}, busy="audit")
        drawn, left_out, unsaved = 0.0, [], None
        for state in audit_run(run, self.judge, cancelled=session.stop.is_set):
            finished = state.control is not None or state.kind == "leaks"
            if state.doing.startswith("left out"):
                left_out.append(state.doing.removeprefix("left out: "))
            if finished:
                unsaved = self._keep(session)
            if finished or time.monotonic() - drawn >= REDRAW_S:
                drawn = time.monotonic()
                yield Screen(audit=self.drawing.audit(session, "running", kind=state.kind, doing=state.doing))
        stopped = session.stop.is_set()
        views = self.drawing.all(session) | {"audit": self.drawing.audit(session, "cancelled" if stopped else "idle")}
        said = "One control was" if len(left_out) == 1 else f"{len(left_out)} controls were"
        notice = (
            unsaved or self._keep(session) or (info(" ".join([f"{said} left out.", *left_out])) if left_out else None)
        )
        yield Screen(**views, busy="", notice=notice)

    @lent
    def whole(
        self,
        session: Session,
        problem: Problem,
        sampling: SamplingConfig,
        config: RevisionConfig,
        samples: SamplingConfig,
    ) -> Iterator[Screen]:
        """The loop from one button: sample, choose, split, revise, continue."""
        yield from self.sample(session, problem, sampling, config)
        if session.stop.is_set() or session.cut is None:
            return
        yield from self.revise(session, config, one=False)
        if session.stop.is_set():
            return
        session.point = len(session.run.steps)
        yield from self.after(session, samples)

    # -- taking it home ----------------------------------------------------------------------------

    def pack(self, session: Session) -> Path:
        """The run's folder and `sft.jsonl` as one zip; without a row the zip says why there is none.

        It is packed on the model thread, between two looks of whatever runs there: anywhere else a step could land
        between the record and its embeddings, and the save under way there and this one would undo each other.
        """
        return self._between(lambda: self._pack(session))

    def _pack(self, session: Session) -> Path:
        if session.run is None and session.opened is not None:
            folder, trace = session.opened.folder, session.opened.trace
        else:
            trace = session.need_run().trace()
            folder = self._save(session)
        rows = sft_rows(trace)
        extra = {"README.txt": _readme(trace, len(rows))}
        if rows:
            extra["sft.jsonl"] = to_jsonl(rows)
        return zip_run(folder, extra, self._room() / f"{folder.name}.zip")

    def _room(self) -> Path:
        """A fresh folder for a file to take home. Gradio serves a copy of its own, so earlier ones go."""
        packed = Path(self._packed.name)
        for earlier in packed.iterdir():
            with contextlib.suppress(OSError):
                if time.time() - earlier.stat().st_mtime > PACKED_S:
                    shutil.rmtree(earlier)
        return Path(tempfile.mkdtemp(dir=packed))

    def _keep(self, session: Session) -> dict | None:
        """Save, or a notice that says why not: a full disk must not stop what can go on in memory."""
        try:
            self._save(session)
        except OSError as error:
            return warning(f"This run could not be saved; the screen keeps it. {describe(error)}")
        return None

    def _saved(self, session: Session) -> Path:
        """The run's folder, written only where it is not as the run stands. Raises `OSError`."""
        if session.folder is not None:
            with contextlib.suppress(UserError):
                if load_run(session.folder, with_trajectory=False)[0] == session.run.trace():
                    return session.folder
        return self._save(session)

    def _save(self, session: Session) -> Path:
        run = session.run
        session.folder = run_folder(self.runs_dir, session.run_id)
        if run.steps and all(made != session.run_id for made, _ in session.made):
            settings = f"γ {run.config.step_size:g}, λ {run.config.away_weight:g}"
            title = f"{run.problem.id} · {settings}, M {len(run.split.prefix_token_ids)}"
            session.made.insert(0, (session.run_id, title))
        return save_run(run.trace(), run.trajectory(), session.folder)

    def refresh(self, session: Session) -> Screen:
        """What tells whether the model is there, for when only the map's progress or the model's changed."""
        drawing = self.drawing
        return Screen(
            stage=drawing.stage(session),
            watch=drawing.watch(session),
            success=drawing.success(session),
            audit=drawing.audit(session),
        )


def typed_problem(question: str, answer: str, chosen: Problem | None) -> Problem:
    """The bank's problem if its text was not changed, else one made of what was typed. Raises `UserError` for bad
    input."""
    if chosen and chosen.question == question.strip() and chosen.answer == answer.strip():
        return chosen
    return make_problem(question, answer)


def _readme(trace: Trace, rows: int) -> bytes:
    wrong = sum(not right_as_a_whole(trace, item) for item in rescued(trace))
    left_out = (
        f"{wrong} rescue(s) are left out: read as one text, prefix and continuation state another answer, which stands "
        "in the prefix."
    )
    if rows:
        told = f'sft.jsonl: {rows} row(s); load with datasets.load_dataset("json", data_files="sft.jsonl").'
    elif wrong:
        told = "There is no sft.jsonl: no rescue of this run is right as a whole."
    else:
        told = "There is no sft.jsonl: no continuation of the revised prefix was verified correct in this run."
    lines = [
        "A run of LatentRevise Explorer (method: arXiv 2606.29938).",
        "",
        f"Model: {trace.model.id} ({trace.model.dtype} on {trace.model.device}). Problem: {trace.problem.id}.",
        "trace.json holds everything that was sampled, decided and measured; trajectory.safetensors the "
        "embeddings of every step.",
        "Check it yourself: embeddings[k+1] = (1 - step_size) * embeddings[k] + step_size * V[vertices].",
        "",
        told,
        *([left_out] if wrong else []),
    ]
    return ("\n".join(lines) + "\n").encode()
