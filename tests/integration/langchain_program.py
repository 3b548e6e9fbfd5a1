"""A program as a user of langchain-openai writes it; run by the clients' own Python.

Arguments: base URL, key, model, and `chat`, `responses` or `embeddings`. Prints one JSON document of
what it saw.
"""

import json
import sys

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings


@tool
def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"weather of {city} says 7"


def embed(url: str, key: str, name: str) -> None:
    # Without the check nothing is fetched to count tokens with.
    model = OpenAIEmbeddings(
        base_url=url, api_key=key, model=name, check_embedding_ctx_length=False
    )
    print(json.dumps([len(vector) for vector in model.embed_documents(["Which way?", "North."])]))


def main(url: str, key: str, name: str, form: str) -> None:
    if form == "embeddings":
        embed(url, key, name)
        return
    model = ChatOpenAI(
        base_url=url,
        api_key=key,
        model=name,
        max_tokens=40,
        temperature=0,
        max_retries=0,
        use_responses_api=form == "responses",
        stream_usage=True,
    )
    question = HumanMessage("Which way to the harbour?")
    whole = model.invoke([question])
    streamed = None
    for chunk in model.stream([question]):
        streamed = chunk if streamed is None else streamed + chunk
    called = model.bind_tools([weather]).invoke([question])
    turns = [question, called]
    turns += [
        ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"])
        for call in called.tool_calls
    ]
    last = model.bind_tools([weather]).invoke(turns) if called.tool_calls else called
    answers = {"whole": whole, "streamed": streamed, "called": called, "last": last}
    print(
        json.dumps(
            {
                name: {
                    "text": answer.text,
                    "usage": answer.usage_metadata,
                    "calls": [call["name"] for call in answer.tool_calls],
                }
                for name, answer in answers.items()
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
