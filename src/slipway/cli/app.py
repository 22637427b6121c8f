"""The command line. Each command parses, makes one library call and shows the result."""

from __future__ import annotations

import gc
import sys
import traceback
from typing import Annotated

import typer

from slipway import __version__, errors
from slipway.cli import output
from slipway.cli.lazy_group import CommandPlace, lazy_group
from slipway.system import deferred_imports
from slipway.system.redact import mask

EXIT_CODES = """Exit codes: 0 done; 1 a bug in Slipway; 2 bad input (config, data, checkpoint, adapter) or a damaged
record; 3 the gate did not pass, or what serves drifted; 4 the machine lacks something (disk, memory, port, compiler,
service); 5 a stage or an engine died; 129, 130, 143 ended by SIGHUP, Ctrl-C, SIGTERM; 141 its output was read by
nobody."""

# With an example each, in the order of --help.
COMMANDS = (
    CommandPlace(
        "pipeline_commands:run",
        "`slipway run train.epochs=2 layers.quantize=formats/fp8`, or a quick one, `slipway run layers=smoke`",
    ),
    CommandPlace(
        "plan_command:plan",
        "`slipway plan train.epochs=2`, `slipway plan --out night.json` and then `slipway run night.json`",
    ),
    CommandPlace("pipeline_commands:stage", "`slipway stage merge .slipway/work/merge-1f3a/stage.json`"),
    CommandPlace(
        "model_commands:quantize",
        "`slipway quantize models/llama-8b --adapter adapters/support --format nvfp4a16 --out out/llama-8b-nvfp4`",
    ),
    CommandPlace("model_commands:merge", "`slipway merge models/llama-8b adapters/support --out out/llama-8b-support`"),
    CommandPlace(
        "training_commands:tune",
        "`slipway tune --model llama-3.1-8b --method qlora --target dgx-h100 --out conf/train/tuned.yaml`",
    ),
    CommandPlace(
        "data_commands:data",
        "`slipway data show`, `slipway data show data.raw=my.jsonl --row 7`, `slipway data publish`",
    ),
    CommandPlace("pipeline_commands:config", "`slipway config train.epochs=2 --json`"),
    CommandPlace("gate_command:gate", "`slipway gate` or `slipway gate layers.gate=gates/strict gate.users=8`"),
    CommandPlace(
        "training_commands:recipe",
        "`slipway recipe --model llama-3.3-70b --method qlora --target spark train.max_steps=500`",
    ),
    CommandPlace(
        "capacity_command:capacity",
        "`slipway capacity --model llama-3.3-70b --weights nvfp4 --target spark --users 64 --context 8192`",
    ),
    CommandPlace(
        "engine_commands:engine",
        "`slipway engine show out/llama-8b-nvfp4 --kind vllm --target spark engine.slots=32`",
    ),
    CommandPlace(
        "agent_command:agent",
        '`slipway agent run "dim the desk lamp in the office to 40" --trace`, `slipway agent eval --tasks tasks.jsonl`',
    ),
    CommandPlace("chat_command:chat", "`slipway chat` or `slipway chat --url http://127.0.0.1:8081 --no-agent`"),
    CommandPlace(
        "rag_commands:rag",
        "`slipway rag compare`, `slipway rag build --strategy fixed-512`, `slipway rag search 'how do I sort a hash?'`",
    ),
    CommandPlace(
        "rag_commands:index",
        "`slipway index verify`, `slipway index push milvus://vectors.example.com`, then `slipway index verify` of it",
    ),
    CommandPlace("machine_commands:status", "`slipway status --json`"),
    CommandPlace("speed_commands:bench", "`slipway bench http://127.0.0.1:8081 --concurrency 1,8,64 --requests 300`"),
    CommandPlace("speed_commands:compare", "`slipway compare before.json after.json`"),
    CommandPlace("release_commands:promote", "`slipway promote` or `slipway promote .slipway/verdict/3f9c...`"),
    CommandPlace(
        "canary_commands:canary",
        "`slipway canary spark --mirror --for 2h` or `slipway canary spark --weight 10`",
    ),
    CommandPlace("canary_commands:capture", "`slipway capture on spark`, `slipway capture show spark --most 5`"),
    CommandPlace("watch_command:watch", "`slipway watch local` or `slipway watch spark --set watch.items=200 --json`"),
    CommandPlace("decision_commands:explain", "`slipway explain`, `slipway explain 3` or `slipway explain local`"),
    CommandPlace(
        "history_command:history", "`slipway history`, `slipway history 3f9c2a` or `slipway history 3f9c2a 81bd07`"
    ),
    CommandPlace("decision_commands:hold", "`slipway hold local --reason 'trade fair until Friday'`"),
    CommandPlace("decision_commands:unhold", "`slipway unhold local`"),
    CommandPlace(
        "serving_commands:rollback", "`slipway rollback`, `slipway rollback local 3`, `slipway rollback local --list`"
    ),
    CommandPlace("serving_commands:start", "`slipway start` or `slipway start local`"),
    CommandPlace("serving_commands:stop", "`slipway stop` or `slipway stop local`"),
    CommandPlace(
        "target_command:target", "`slipway target set-up spark --fingerprint SHA256:...`, undone with `--undo`"
    ),
    CommandPlace("probe_command:probe", "`slipway probe spark`, once, before the first training there"),
    CommandPlace("verify_command:verify", "`slipway verify .slipway/bundles --key .slipway/signing/key.pub`"),
    CommandPlace("serve_command:serve", "`slipway serve models/llama-8b --context 4096 --slots 4`"),
    CommandPlace("machine_commands:gc", "`slipway gc` shows, `slipway gc --yes` removes"),
    CommandPlace("machine_commands:doctor", "`slipway doctor --json`"),
    CommandPlace("machine_commands:build_engine", "`slipway build-engine`"),
    CommandPlace("training_commands:pin", "`slipway pin` or `slipway pin nemo-automodel --tag 26.10.00`"),
)

app = typer.Typer(
    name="slipway",
    cls=lazy_group(COMMANDS),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Fine-tune a language model and ship it, as one tracked, resumable pipeline.",
    epilog=EXIT_CODES,
)


@app.callback(invoke_without_command=True)
def _version_option(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point: runs the command of `sys.argv` and exits with its code."""
    deferred_imports.install()
    code = output.guarded(_run)
    gc.freeze()  # or Python's last collection goes through all of torch, half a second in which nothing can be freed
    sys.exit(code)


def _call() -> None:
    """Run the command. An import that fails because an extra is not installed becomes the error that names it."""
    try:
        app(standalone_mode=True)
    except ModuleNotFoundError:
        from slipway.system.installed import missing_is_named

        with missing_is_named():
            raise


def _run() -> int:
    """Errors raised on purpose become one message and their exit code; anything else is a bug, shown whole."""
    try:
        _call()
    except errors.SlipwayError as err:
        return _show_error(err)
    except KeyboardInterrupt:
        return 130
    except output.OutputError:
        raise
    except OSError as err:
        if not err.filename:
            return _show_bug()
        from slipway.system.files import as_resource_error

        return _show_error(as_resource_error(err))
    except Exception:  # noqa: BLE001 (the last place: report a bug whole)
        return _show_bug()
    return 0


def _show_error(err: errors.SlipwayError) -> int:
    """Show an error raised on purpose; its exit code."""
    from slipway.cli import tables

    if "--json" in sys.argv:
        tables.show_json(tables.error_document(err))
    else:
        tables.show_error(err)
    return err.exit_code


def _show_bug() -> int:
    """Show the exception that is being handled, whole."""
    sys.stderr.write(mask(traceback.format_exc()))
    sys.stderr.write("This is a bug in Slipway: please report it with the text above.\n")
    return 1
