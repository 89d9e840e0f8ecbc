"""The route class: from a request to an endpoint's arguments, on the shortest way."""

import inspect
from collections.abc import Callable, Coroutine
from typing import Any, get_type_hints

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.types import Receive, Scope, Send

from app.errors import BodyTooLarge, UnsupportedMediaType
from app.web.problems import invalid_request

LARGEST_BODY = 64 * 1024


class LeanRoute(APIRoute):
    """Calls an endpoint with its path parameters, its body's model and the request.

    FastAPI describes the route in the OpenAPI document from the same signature, but its own way
    from the request to the call solves dependencies that this API does not have, and costs more
    than the database does. The endpoint returns a finished Response.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._respond = self.get_route_handler()

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what FastAPI calls for each request."""
        endpoint = self.endpoint
        hints = get_type_hints(endpoint)
        names = inspect.signature(endpoint).parameters
        path = [(name, TypeAdapter(hints[name])) for name in names if name in self.param_convertors]
        bodies = [(name, hints[name]) for name in names if _is_model(hints[name])]

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
        """Answer a request; one for another method is refused by FastAPI's own."""
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

    Raises BodyTooLarge before the body is read whole, UnsupportedMediaType, InvalidRequest.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > LARGEST_BODY:
        raise BodyTooLarge(LARGEST_BODY)
    # A form of a web page elsewhere can be posted here without asking, but not as JSON.
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaType
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise BodyTooLarge(LARGEST_BODY)
    try:
        return model.model_validate_json(bytes(body))
    except ValidationError as error:
        raise invalid_request(error.errors(), within="body") from None
