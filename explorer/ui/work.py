"""What the buttons do: generators that drive the pipeline for one session and yield what changed on the screen.

They know views (payloads) and the pipeline; they don't know which component shows what. Each yields `Screen` values:
only the fields set are redrawn. Errors meant for people end up in `notice`, never as a traceback, and whatever was
finished is saved.

What it does not do: lay out the page; the panels do.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from explorer.errors import UserError, describe
from explorer.export import sft_rows, to_jsonl
from explorer.pipeline import Run
from explorer.problems import make_problem
from explorer.records import Problem, RevisionConfig, Rollout, RunStatus, SamplingConfig, Start, Verdict
from explorer.split import SplitPoint, best_failed, best_preset, presets
from explorer.store import new_run_id, run_folder, save_run, zip_run
from explorer.ui.models import ModelHost
from explorer.ui.pump import ModelThread
from explorer.ui.session import Session
from explorer.verdict import Judge
from explorer.views.payloads import compare_payload, rollouts_payload, stage_payload
from explorer.views.vocabulary_map import neighbourhood, start_joint_layout

# Fewer, larger updates than tokens: a screen that is redrawn more often than this looks no smoother and costs sampling
# time.
REDRAW_S = 0.15


class _Same:
    """Marks a part of the screen that did not change."""


SAME: Any = _Same()


@dataclass(frozen=True)
class Screen:
    """What to redraw: payloads of the three views, a notice {kind, text}, and what is busy ("" when nothing is)."""

    rollouts: Any = SAME
    stage: Any = SAME
    compare: Any = SAME
    notice: Any = SAME
    busy: Any = SAME


def merged(older: Screen, newer: Screen) -> Screen:
    """Two redraws as one: a part that the newer one leaves alone is the older one's."""
    values = {f.name: getattr(newer, f.name) for f in fields(Screen)}
    return Screen(**{name: getattr(older, name) if value is SAME else value for name, value in values.items()})


class Work:
    """The actions of the page, over shared models, one judge and one folder of runs."""

    def __init__(self, host: ModelHost, judge: Judge, runs_dir: Path):
        self.host, self.judge, self.runs_dir = host, judge, runs_dir
        self.thread = ModelThread()

    def guarded(self, session: Session, name: str, action: Iterator[Screen], on_model: bool = True) -> Iterator[Screen]:
        """Run an action for a session: no two at once, errors as one sentence, and what was finished saved however it
        ends.

        Gradio closes the generator when the page is closed: the work is then told to stop, and ends by saving like any
            stopped work.
        """
        if session.running:
            text = "Something is still running for this page: cancel it or wait until it is done."
            yield Screen(notice=info(text), **self._unmoved(session))
            return
        session.running = name
        session.stop.clear()
        try:
            yield from self.thread.drain(action, merged, session.stop.set) if on_model else action
        except Exception as error:  # the page is the top: everything becomes one sentence here
            yield Screen(notice=warning(describe(error)), **self._as_it_stands(session), busy="")
        finally:
            session.running = None

    def _unmoved(self, session: Session) -> dict[str, Any]:
        """After a refusal: the picker moved by itself in the browser, and is told to go back to where the cut is."""
        if session.cut is None:
            return {}
        session.refusals += 1
        return {"rollouts": self._rollouts(session, "done") | {"refused": session.refusals}}

    def _as_it_stands(self, session: Session) -> dict[str, Any]:
        """After a failure: the views show what was finished, and keep it on disk if that is possible at all."""
        if session.run is None or not session.run.before:
            return {}
        self._keep(session)
        return {
            "rollouts": self._rollouts(session, "done"),
            "stage": self._stage(session),
            "compare": self._compare(session, "cancelled"),
        }

    # -- rollouts and split ------------------------------------------------------------------------

    def sample(
        self, session: Session, problem: Problem, sampling: SamplingConfig, config: RevisionConfig
    ) -> Iterator[Screen]:
        """Sample N rollouts of a problem, then choose a failed one and lay a split for it, ready to be revised."""
        name = session.model  # should it fail to load, say so instead of going on with another one
        yield from self._await_model(session, name)
        if session.stop.is_set():
            return
        run = Run.start(self.host.need(name), problem, sampling)
        session.run, session.run_id, session.folder = run, new_run_id(run.trace()), None
        session.chosen = session.cut = session.joint = None
        session.presets, session.point = (), 0
        text = run.model.token_text
        yield Screen(
            rollouts=rollouts_payload(run.trace(), text, state="sampling", drafts=[[]] * sampling.n, rollouts={}),
            stage=None,
            compare=None,
            notice=None,
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
        unsaved = self._keep(session)
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
        yield Screen(
            rollouts=self._rollouts(session, "cancelled" if stopped else "done"),
            stage=self._stage(session),
            notice=unsaved or notice,
            busy="",
        )

    def _await_model(self, session: Session, name: str) -> Iterator[Screen]:
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
            time.sleep(0.2)
        if said is not None:
            yield Screen(notice=None, busy="")

    def pick(self, session: Session, rollout: int, config: RevisionConfig) -> Iterator[Screen]:
        """Choose a failed rollout to revise; its split is set to the best preset."""
        run = session.need_run()
        if not 0 <= rollout < len(run.before) or run.before[rollout].verdict is Verdict.CORRECT:
            raise UserError("Choose a rollout that failed: there is nothing to revise in a correct one.")
        self._choose(session, rollout)
        yield from self._split(session, config)

    def cut(self, session: Session, rollout: int, m: int, name: str, config: RevisionConfig) -> Iterator[Screen]:
        """Move the split of the chosen rollout."""
        run = session.need_run()
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
        """Lay the chosen split; an earlier revision stays on disk under its own name."""
        self._restart(session, config)
        yield Screen(
            rollouts=self._rollouts(session, "done"),
            stage=self._stage(session),
            compare=self._compare(session),
            notice=None,
        )

    # -- revision ----------------------------------------------------------------------------------

    def restart(self, session: Session, config: RevisionConfig) -> Iterator[Screen]:
        """Forget the steps and begin again from the prefix, with the settings as they stand now."""
        session.need_run()
        self._restart(session, config)
        yield Screen(stage=self._stage(session), compare=self._compare(session), notice=None)

    def revise(self, session: Session, config: RevisionConfig, one: bool) -> Iterator[Screen]:
        """Take one step, or go on to the planned number; pausing is `session.stop`."""
        run = session.need_run()
        if session.cut is None or session.chosen is None:
            raise UserError("Choose a failed rollout first: there is nothing to revise in a correct one.")
        notice = None
        if run.config is None or not run.steps:
            if run.config != config:
                self._restart(session, config)
        elif run.config.model_copy(update={"steps": config.steps}) != config:
            notice = info("This run goes on with the settings it began with; press “Start over” to use the new ones.")
        run.plan(config.steps)
        taken = len(run.steps)
        until = taken + 1 if one else max(config.steps, taken)
        yield Screen(stage=self._stage(session, "running"), notice=notice, busy="revision")
        for _ in run.revise(until, session.stop.is_set):
            yield Screen(stage=self._stage(session, "running"))
        yield Screen(stage=self._stage(session), busy="", notice=self._keep(session) or notice)

    def plan(self, session: Session, steps: int) -> Screen:
        """Another K while steps stand: Play then goes on instead of replaying. Not while something runs."""
        run = session.run
        if run is None or run.config is None or session.running:
            return Screen()
        run.plan(steps)
        return Screen(stage=self._stage(session))

    def joint(self, session: Session) -> Iterator[Screen]:
        """Fit neighbourhood and all steps together, in a child process, with progress."""
        run = session.need_run()
        if not run.steps:
            raise UserError("Take some steps first: there is no movement to fit yet.")
        run_id, steps = session.run_id, len(run.steps)
        trajectory = run.trajectory()
        vertices = sorted({vertex for step in run.steps for vertex in step.vertices})
        ids = neighbourhood(run.model.vocabulary, trajectory, vertices)
        job = start_joint_layout(trajectory, run.model.vocabulary, ids)
        try:
            while (status := job.poll()).state == "building":
                if session.stop.is_set() or session.run_id != run_id:
                    return
                session.joint = {"state": "fitting", "progress": status.progress, "message": status.message}
                yield Screen(stage=self._stage(session))
                time.sleep(0.5)
        finally:
            job.cancel()
        if session.run_id != run_id:
            return
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
        else:
            session.joint = {"state": "failed", "progress": 0.0, "message": status.message}
        yield Screen(stage=self._stage(session))

    def _restart(self, session: Session, config: RevisionConfig) -> None:
        run = session.run
        if session.cut is None or session.chosen is None or session.cut.m is None:
            raise UserError("Choose a failed rollout and where its prefix ends first.")
        if run.steps:
            session.run_id = new_run_id(run.trace())
            session.folder = None
        run.split_at(session.chosen, session.cut.m, config)
        session.point, session.joint = 0, None

    # -- after -------------------------------------------------------------------------------------

    def after(self, session: Session, sampling: SamplingConfig) -> Iterator[Screen]:
        """Sample continuations from the step on screen, its projection and the unrevised prefix, at one budget."""
        run = session.need_run()
        if not run.steps:
            raise UserError("Take some steps first: there is nothing revised to continue from yet.")
        session.after_point = point = max(0, min(session.point, len(run.steps)))
        session.after_sampling = sampling
        run.after = [item for item in run.after if item.step != point]  # sampled anew
        yield Screen(compare=self._compare(session, "sampling"), notice=None, busy="after", stage=self._stage(session))
        drawn = 0.0
        for start, state in run.continue_from(self.judge, point, sampling, cancelled=session.stop.is_set):
            if time.monotonic() - drawn >= REDRAW_S:
                drawn = time.monotonic()
                yield Screen(compare=self._compare(session, "sampling", start, state.drafts, dict(state.rollouts)))
        unsaved = self._keep(session)
        stopped = session.stop.is_set()
        yield Screen(compare=self._compare(session, "cancelled" if stopped else "done"), busy="", notice=unsaved)

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
        """The run's folder and `sft.jsonl` as one zip; without a rescue the zip says that there is no row."""
        run = session.need_run()
        folder = self._save(session)
        rows = sft_rows(run.trace())
        extra = {"README.txt": _readme(run, len(rows))}
        if rows:
            extra["sft.jsonl"] = to_jsonl(rows)
        target = Path(tempfile.mkdtemp(prefix="latentrevise-")) / f"{folder.name}.zip"
        return zip_run(folder, extra, target)

    def _keep(self, session: Session) -> dict | None:
        """Save, or a notice that says why not: a full disk must not stop what can go on in memory."""
        try:
            self._save(session)
        except OSError as error:
            return warning(f"This run could not be saved. {describe(error)}")
        return None

    def _save(self, session: Session) -> Path:
        run = session.run
        session.folder = run_folder(self.runs_dir, session.run_id)
        return save_run(run.trace(), run.trajectory(), session.folder)

    # -- drawing -----------------------------------------------------------------------------------

    def _rollouts(self, session: Session, state: str) -> dict | None:
        if session.run is None:
            return None
        return rollouts_payload(
            session.run.trace(),
            session.run.model.token_text,
            state=state,
            split=session.cut,
            split_rollout=session.chosen,
            presets=session.presets,
        )

    def _stage(self, session: Session, status: str | None = None) -> dict | None:
        run = session.run
        if run is None or run.split is None:
            return None
        key, map_status = self.host.map_status(run.model)
        if status is None:
            status = run.status.value
        return stage_payload(
            run.trace(RunStatus.COMPLETED, run.message),
            run.model.token_text,
            run_id=session.run_id,
            live=True,
            status=status,
            message=run.message,
            map_key=key,
            map_status=map_status,
            joint=session.joint,
        )

    def _compare(
        self,
        session: Session,
        state: str = "done",
        running: Start | None = None,
        drafts: list | tuple = (),
        drafted: dict[int, Rollout] | None = None,
    ) -> dict | None:
        run = session.run
        if run is None or session.after_sampling is None or (state == "done" and not run.after):
            return None
        return compare_payload(
            run.trace(),
            run.model.token_text,
            run.model.decode,
            state=state,
            point=session.after_point,
            sampling=session.after_sampling,
            continuations=[item for item in run.after if item.step == session.after_point],
            running=running,
            drafts=drafts,
            drafted=drafted,
        )

    def refresh(self, session: Session) -> Screen:
        """The stage again, for when only the map's progress changed."""
        return Screen(stage=self._stage(session))


def typed_problem(question: str, answer: str, chosen: Problem | None) -> Problem:
    """The bank's problem if its text was not changed, else one made of what was typed. Raises `UserError` for bad
    input."""
    if chosen and chosen.question == question.strip() and chosen.answer == answer.strip():
        return chosen
    return make_problem(question, answer)


def info(text: str) -> dict:
    """A notice that tells."""
    return {"kind": "info", "text": text}


def warning(text: str) -> dict:
    """A notice that asks for something."""
    return {"kind": "warning", "text": text}


def _readme(run: Run, rows: int) -> bytes:
    name = run.model.info.id
    lines = [
        "A run of LatentRevise Explorer (method: arXiv 2606.29938).",
        "",
        f"Model: {name} ({run.model.info.dtype} on {run.model.info.device}). Problem: {run.problem.id}.",
        "trace.json holds everything that was sampled, decided and measured; trajectory.safetensors the "
        "embeddings of every step.",
        "Check it yourself: embeddings[k+1] = (1 - step_size) * embeddings[k] + step_size * V[vertices].",
        "",
        f'sft.jsonl: {rows} row(s); load with datasets.load_dataset("json", data_files="sft.jsonl").'
        if rows
        else "There is no sft.jsonl: no continuation of the revised prefix was verified correct in this run.",
    ]
    return ("\n".join(lines) + "\n").encode()
