"""A function for each action of caisson-plugin.toml."""

from caisson import Context, Failure, log


def greet(input: dict, context: Context) -> dict:
    name = input["name"]
    if name == "nobody":
        # A failure with a code, which `retryOn` and `catch` of a workflow select by. Any other exception becomes SCRIPT_ERROR.
        raise Failure("NOBODY", "there is nobody to greet", category="validation", retry="never")
    log.info("greeting", name=name)

    # State that outlives the step, once caisson-plugin.toml asks for it with capabilities = ["kv"] (and `from caisson import kv`):
    # count = kv.get(name, 0) + 1
    # kv.set(name, count)

    return {"greeting": f"{context.config.get('greeting', 'hello')}, {name}"}
