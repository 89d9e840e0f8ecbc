"""The document and its pages, which load nothing from another host: their files are a package's."""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles

from app.web import openapi
from app.web.problems import path_prefix

# The package's own set-up would replace functions of FastAPI for the whole process.
PACKAGE = "fastapi_standalone_docs"
# FastAPI's pages have a script and a style inside, and ReDoc searches in a worker of its own.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data:; worker-src blob:; "
    "script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
NO_ICON = "data:,"


def add_documentation(app: FastAPI) -> None:
    """Serve `/openapi.json`, Swagger UI at `/docs` and ReDoc at `/redoc`, with their files below.

    The addresses in the pages are relative, so that they are right below any prefix.
    """

    async def document(request: Request) -> Response:
        return JSONResponse(openapi.describe(app, path_prefix(request.scope)))

    async def swagger_ui(_request: Request) -> Response:
        return _page(
            get_swagger_ui_html(
                openapi_url="openapi.json",
                title=f"{app.title} - Swagger UI",
                swagger_js_url="docs/swagger-ui-bundle.js",
                swagger_css_url="docs/swagger-ui.css",
                swagger_favicon_url=NO_ICON,
            )
        )

    async def redoc(_request: Request) -> Response:
        return _page(
            get_redoc_html(
                openapi_url="openapi.json",
                title=f"{app.title} - ReDoc",
                redoc_js_url="redoc/redoc.standalone.js",
                redoc_favicon_url=NO_ICON,
                with_google_fonts=False,
            )
        )

    app.add_route("/openapi.json", document)
    app.add_route("/docs", swagger_ui)
    app.add_route("/docs/{file}", _files_of("static/swagger"))
    app.add_route("/redoc", redoc)
    app.add_route("/redoc/{file}", _files_of("static/redoc"))


def _page(page: Response) -> Response:
    page.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    return page


def _files_of(folder: str) -> Callable[[Request], Awaitable[Response]]:
    files = StaticFiles(packages=[(PACKAGE, folder)])

    async def serve_file(request: Request) -> Response:
        return await files.get_response(request.path_params["file"], request.scope)

    return serve_file
