"""The route class: from a request to an endpoint's arguments, by the shortest way."""

import inspect
from codecs import BOM_UTF8
from collections.abc import Callable, Coroutine
from typing import Any, get_type_hints

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.types import Receive, Scope, Send

from app.web.errors import BodyTooLarge, EncodedBody, UnsupportedMediaType
from app.web.problems import invalid_request

LARGEST_BODY = 64 * 1024


class LeanRoute(APIRoute):
    """Calls an endpoint with its path parameters, the model of its body, and the request.

    A trick for speed: FastAPI describes the route in the OpenAPI document from the endpoint's
    signature, but its own way from the request to the call solves dependencies that this API does
    not have, and costs more than the database does. What FastAPI would pass and this class does
    not is refused when the route is made; otherwise it would be documented and then ignored.

    An endpoint returns a finished Response.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.dependencies or self.max_body_size is not None:
            raise TypeError(f"{self.name}: LeanRoute ignores dependencies and max_body_size")
        self._respond = self.get_route_handler()

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers each request; raise TypeError for a parameter that it cannot pass."""
        endpoint = self.endpoint
        hints = get_type_hints(endpoint)
        names = list(inspect.signature(endpoint).parameters)
        path = [(name, TypeAdapter(hints[name])) for name in names if name in self.param_convertors]
        bodies = [(name, hints[name]) for name in names if _is_model(hints[name])]
        passed = [name for name, _ in [*path, *bodies[:1]]] + ["request"]
        if sorted(names) != sorted(passed):
            raise TypeError(
                f"{self.name}: LeanRoute passes path parameters, one model and the request, "
                f"so {', '.join(sorted(set(names) ^ set(passed)))} cannot be"
            )

        async def handle(request: Request) -> Response:
            values: dict[str, Any] = {}
            for name, adapter in path:
                try:
                    values[name] = adapter.validate_strings(request.path_params[name])
                except ValidationError as error:
                    raise invalid_request(_under(name, error), within="path") from None
            for name, model in bodies:
                values[name] = await _read_model(request, model)
            response: Response = await endpoint(request=request, **values)
            return response

        return handle

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; FastAPI refuses one for another method."""
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        response = await self._respond(Request(scope, receive))
        await response(scope, receive, send)


def _is_model(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, BaseModel)


def _under(name: str, error: ValidationError) -> list[dict[str, Any]]:
    return [{**problem, "loc": (name,)} for problem in error.errors()]


async def _read_model(request: Request, model: type[BaseModel]) -> BaseModel:
    """Return the request's JSON body, validated.

    Raises BodyTooLarge before the body is read whole, UnsupportedMediaType, EncodedBody,
    InvalidRequest.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > LARGEST_BODY:
        raise BodyTooLarge(LARGEST_BODY)
    # A web page of another site can make a browser post a form here, but not JSON.
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaType
    codings = ",".join(request.headers.getlist("content-encoding")).lower().split(",")
    if not {coding.strip() for coding in codings} <= {"", "identity"}:
        raise EncodedBody
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise BodyTooLarge(LARGEST_BODY)
    try:
        # RFC 8259 section 8.1 lets a parser ignore a byte order mark.
        return model.model_validate_json(bytes(body).removeprefix(BOM_UTF8))
    except ValidationError as error:
        raise invalid_request(error.errors(), within="body") from None
