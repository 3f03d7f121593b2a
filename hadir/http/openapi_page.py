"""Operations of the control centre's page: its shell and its files."""

from __future__ import annotations

from hadir.http.assets import ASK_AGAIN, FOLDERS, FOR_EVER, GUARDED, TYPES
from hadir.http.openapi_schemas import Schema
from hadir.http.openapi_table import CACHE_CONTROL, INTERNAL, Answer, Operation, get, in_path

IF_NONE_MATCH = {"name": "If-None-Match", "in": "header", "schema": {"type": "string"}}
HEADERS: dict[str, Schema] = {
    "ETag": {"type": "string", "pattern": '^W/"[0-9a-f]+"$'},
    "Vary": {"const": "accept-encoding"},
    **{name.title(): {"const": value} for name, value in GUARDED.items()},
}
SHELL_HEADERS: dict[str, Schema] = HEADERS | {CACHE_CONTROL: {"const": ASK_AGAIN}}
FILE_HEADERS: dict[str, Schema] = HEADERS | {CACHE_CONTROL: {"enum": [ASK_AGAIN, FOR_EVER]}}
TEXT: Schema = {"type": "string"}
SAME = "It is still the one of `If-None-Match`"


def _file(folder: str) -> Operation:
    return get(
        (INTERNAL,),
        f"/centre/{{version}}/{folder}{{name}}",
        f"A file of the page; with the version of the page that is served it may be kept for ever ({', '.join(TYPES)})",
        Answer("The file", ("*/*", TEXT), FILE_HEADERS),
        also={304: Answer(SAME, None, FILE_HEADERS)},
        parameters=(in_path("version", TEXT), in_path("name", TEXT), IF_NONE_MATCH),
        refuses=(404,),
    )


PAGE = (
    get(
        (INTERNAL,),
        "/",
        "The control centre's page, without a token and without data: it asks for the one and reads the other",
        Answer("The page", (TYPES[".html"].partition(";")[0], TEXT), SHELL_HEADERS),
        also={304: Answer(SAME, None, SHELL_HEADERS)},
        parameters=(IF_NONE_MATCH,),
    ),
    *(_file(folder) for folder in FOLDERS),
)
