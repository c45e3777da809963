"""An endpoint of FastAPI's as most are: a path parameter, one of the query, a model that becomes JSON."""

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

application = FastAPI(openapi_url=None)


class Item(BaseModel):
    number: int
    name: str
    tags: list[str]


@application.get("/")
async def hello() -> PlainTextResponse:
    return PlainTextResponse("Hello, world!\n")


@application.get("/items/{number}")
async def item(number: int, name: str = "") -> Item:
    return Item(number=number, name=name, tags=["one", "two"])
