// A function for each action of caisson-plugin.toml.

interface Greet {
  name: string;
}

interface Config {
  greeting?: string;
}

export function greet(input: Greet, context: Caisson.Context<Config>): { greeting: string } {
  if (input.name === "nobody") {
    // A failure with a code, which `retryOn` and `catch` of a workflow select by. Any other error becomes SCRIPT_ERROR.
    throw new caisson.Failure({ code: "NOBODY", category: "validation", message: "there is nobody to greet", retry: "never" });
  }
  caisson.log.info("greeting", { name: input.name });

  // State that outlives the step, once caisson-plugin.toml asks for it with capabilities = ["kv"]:
  // const count: number = (caisson.kv.get(input.name) ?? 0) + 1;
  // caisson.kv.set(input.name, count);

  return { greeting: `${context.config.greeting ?? "hello"}, ${input.name}` };
}
