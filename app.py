"""LatentRevise Explorer: `python app.py` opens the page. Settings come from the command line or the environment; see
`--help`."""

from __future__ import annotations

import argparse
import os
import signal
import sys

# At the end, what runs for open pages has this long to save itself.
SAVING_S = 10.0


def arguments() -> argparse.Namespace:
    """What the command line says; everything left out comes from the environment or the defaults
    (explorer/settings.py)."""
    parser = argparse.ArgumentParser(
        description="Watch a language model's failed reasoning being revised in latent space."
    )
    parser.add_argument(
        "--model", help="hub id or local folder; default: SmolLM2-135M-Instruct (or LATENTREVISE_MODEL)"
    )
    parser.add_argument("--device", help="auto, cpu, cuda, cuda:1 or mps (or LATENTREVISE_DEVICE)")
    parser.add_argument("--dtype", help="auto, float32, bfloat16 or float16 (or LATENTREVISE_DTYPE)")
    parser.add_argument("--runs-dir", help="where finished runs are written (or LATENTREVISE_RUNS_DIR)")
    parser.add_argument("--host", help="address to listen on; default 127.0.0.1 (or GRADIO_SERVER_NAME)")
    parser.add_argument("--port", type=int, help="port; default the first free one from 7860 (or GRADIO_SERVER_PORT)")
    return parser.parse_args()


def open_door(host: str, settings) -> str:
    """What to say of an address that others can reach, where neither a password nor public mode keeps them in bounds;
    empty where all is well."""
    from explorer.ui.shield import within

    if not host or within(host) or settings.public or settings.password.get_secret_value():
        return ""
    return (
        f"warning: whoever reaches {host} can load any model or folder of this machine and start hunts and trainings: "
        "set LATENTREVISE_PASSWORD, or LATENTREVISE_PUBLIC=1."
    )


def hear_no_more() -> None:
    """From here on stop signals and Ctrl-C are ignored: asked again, impatiently, the saving is not broken into."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def stop(number: int, _frame) -> None:
    """As a container is stopped, and a Space: what runs is saved as after Ctrl-C."""
    hear_no_more()
    sys.exit(128 + number)


def main() -> None:
    """Build the page, start loading the model in the background, serve until interrupted."""
    options = arguments()
    # The page asks no other host for anything; set before gradio is imported.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

    gpu = None
    if os.environ.get("SPACES_ZERO_GPU"):
        # Before torch: in this process it stands in for CUDA.
        from spaces import GPU as gpu
    from explorer.errors import UserError, describe

    janitor = None
    try:
        from explorer.settings import read_settings

        settings = read_settings(
            model=options.model, device=options.device, dtype=options.dtype, runs_dir=options.runs_dir
        )
        from explorer.ui.app import build
        from explorer.ui.janitor import Janitor
        from explorer.ui.shield import within

        host = options.host or os.environ.get("GRADIO_SERVER_NAME", "")
        demo, launch, page = build(settings, gpu, at_home=not host or within(host))
        if warning := open_door(host, settings):
            print(warning, file=sys.stderr, flush=True)
        page.host.request(settings.model)
        if settings.kept_hours:
            janitor = Janitor(settings.runs_dir, settings.kept_hours)
        _, url, _ = demo.launch(server_name=options.host, server_port=options.port, prevent_thread_lock=True, **launch)
        print(f"LatentRevise Explorer is ready at {url}", flush=True)
    except UserError as error:
        sys.exit(_say(str(error)))
    except OSError as error:
        # Gradio raises OSError when no port of its range, or not the one asked for, is free.
        sys.exit(
            _say(
                f"{describe(error) if 'port' not in str(error) else 'That port is taken'}: choose another with --port."
            )
        )
    signal.signal(signal.SIGTERM, stop)
    try:
        demo.block_thread()
    finally:
        hear_no_more()
        if janitor is not None:
            janitor.close()
        page.host.close()
        page.sessions.close()
        page.work.thread.close(wait_s=SAVING_S)
        page.work.judge.close()


def _say(sentence: str) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
