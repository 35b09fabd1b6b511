// The component's entry point: the one export of the interface, over the plugin's functions. `actions.js` is written by the build.

import { begin, finish } from "./setup.js";
import { drain } from "./promise.js";
import { finder } from "./step.js";
import { seed } from "./random.js";
import { actions } from "./actions.js";
import * as plugin from "caisson-plugin";

const find = finder(plugin);
actions.forEach(find);

export const executor = {
  execute(call) {
    seed(call.context);
    begin(find, call);
    drain();
    const { outcome, failure } = finish();
    if (failure) throw failure;
    return outcome;
  },
};
