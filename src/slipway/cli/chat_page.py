"""The chat page, by NiceGUI: messages, the passages of an answer, the steps of an agent and what they changed.

All text is set as text: what a model or a document writes is never HTML. One conversation for each page that is open.
Refused are requests for another host than loopback (a foreign name that resolves to this machine), and those without
the key.
"""

from __future__ import annotations

import json
import secrets
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Annotated

from fastapi import Query
from nicegui import app, run, ui
from starlette.middleware.trustedhost import TrustedHostMiddleware

from slipway.errors import SlipwayError

if TYPE_CHECKING:
    from slipway.ops.chat import ChatRoom, Reply

LOOPBACK = "127.0.0.1"
REFRESH_S = 0.1
ANSWERS, AGENT = "Answers", "Agent"
PLAIN = "white-space: pre-wrap; overflow-wrap: anywhere"


def serve_page(room: ChatRoom, port: int, key: str) -> None:
    """Serve the page on loopback until it is interrupted. `key`: what its address must hold."""
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[LOOPBACK, "localhost"])

    def page(key_given: Annotated[str, Query(alias="key")] = "") -> None:
        if secrets.compare_digest(key_given.encode(), key.encode()):
            ChatPage(room).build()
        else:
            ui.label("This address lacks its key: take the one that `slipway chat` printed.")

    ui.page("/", title=f"{room.model} - slipway chat")(page)
    ui.run(
        host=LOOPBACK, port=port, reload=False, show=False, show_welcome_message=False, uvicorn_logging_level="warning"
    )


class ChatPage:
    """One open page with its conversation."""

    def __init__(self, room: ChatRoom) -> None:
        self._room, self._conversation = room, room.conversation()

    def build(self) -> None:
        """Lay the page out."""
        room = self._room
        documents = f"{room.documents.name[:12]} by {room.documents.retriever}" if room.documents else "no documents"
        with ui.header().classes("items-center justify-between bg-slate-800 px-4 py-2"):
            ui.label("slipway chat").classes("text-lg font-medium")
            ui.label(f"{room.model} | {documents}").classes("text-sm opacity-80")
        modes = [ANSWERS, *([AGENT] if room.agent_in else [])]
        self._messages = ui.column().classes("w-full max-w-3xl mx-auto pb-4 items-stretch")
        with (
            ui.footer().classes("bg-white border-t"),
            ui.row().classes("w-full max-w-3xl mx-auto items-center no-wrap"),
        ):
            self._mode = ui.toggle(modes, value=ANSWERS).props("no-caps text-color=primary unelevated")
            self._input = ui.input(placeholder="Ask, or tell the agent what to do").props("outlined dense")
            self._input.classes("flex-grow").on("keydown.enter", self._send)
            self._button = ui.button(icon="send", on_click=self._send).props('dense aria-label="Send"')

    async def _send(self) -> None:
        # asked of the page: the last letters of who types fast are still on their way
        field = f"getHtmlElement({self._input.id}).value"
        text = str(await ui.run_javascript(field) or "").strip()
        if not text or not self._button.enabled:
            return
        self._input.value = ""
        self._button.disable()
        with self._messages:
            sent = ui.chat_message(name="you", sent=True, text=text)
            sent.props("bg-color=blue-1 text-color=dark").classes("self-end")
            reply = ui.chat_message(name=self._room.model).props("bg-color=grey-2 text-color=dark")
            with reply.classes("self-start w-full"), ui.column().classes("w-full gap-1"):
                label = ui.label("...").style(PLAIN)
                details = ui.column().classes("w-full gap-1")
        try:
            with details:
                await (self._answer(text, label) if self._mode.value == ANSWERS else self._act(text, label))
        except SlipwayError as err:
            label.text = str(err)
            label.classes("text-red-700")
        finally:
            self._button.enable()
            ui.run_javascript("window.scrollTo(0, document.body.scrollHeight)")

    async def _answer(self, question: str, label: ui.label) -> None:
        """The answer as it is written, then its passages."""
        pieces: SimpleQueue[str] = SimpleQueue()
        written: list[str] = []

        def refresh() -> None:
            try:
                while True:
                    written.append(pieces.get_nowait())
            except Empty:
                label.text = "".join(written) or "..."

        timer = ui.timer(REFRESH_S, refresh)
        try:
            reply = await run.io_bound(self._conversation.answer, question, pieces.put)
        finally:
            timer.deactivate()
        label.text = reply.text or "(an answer without text)"
        if reply.sources:
            with ui.expansion(f"Sources: {len(reply.sources)}", icon="menu_book").classes("w-full"):
                for one in reply.sources:
                    title = f"[{one.number}] {one.document}{', cited' if one.cited else ''}"
                    with ui.expansion(title).classes("w-full"):
                        ui.label(one.text).style(PLAIN).classes("text-sm")
        _foot(reply)

    async def _act(self, request: str, label: ui.label) -> None:
        """The agent's steps and what is different in the home."""
        reply = await run.io_bound(self._conversation.act, request)
        label.text = reply.text or "nothing done"
        with ui.expansion(f"Steps: {len(reply.steps)}", icon="account_tree", value=True).classes("w-full"):
            for line in reply.steps:
                ui.label(line).style(PLAIN).classes("text-sm font-mono")
        changes = [{"what": name, "now": json.dumps(value)} for name, value in reply.changes.items()]
        if changes:
            columns = [{"name": key, "label": key, "field": key, "align": "left"} for key in ("what", "now")]
            ui.table(columns=columns, rows=changes, row_key="what").props("dense flat").classes("w-full")
        else:
            ui.label("Nothing changed in the home.").classes("text-sm opacity-70")
        _foot(reply)


def _foot(reply: Reply) -> None:
    ui.label(f"{reply.tokens} tokens in {reply.seconds:.1f} s").classes("text-xs opacity-60")
