// Makes the globals before the plugin's own modules are evaluated. `host.js` is written by the build: one import for each interface
// that the manifest asks for.

import "./promise.js";
import * as host from "./host.js";
import { place } from "./places.js";
import { install } from "./prelude.js";
import * as utf8 from "./utf8.js";

export const { begin, finish } = install(host, utf8, place);
