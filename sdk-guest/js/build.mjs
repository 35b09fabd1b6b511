// Makes the component: src/plugin.js or src/plugin.ts → .caisson/component.wasm. `caisson plugin build` has written `.caisson/wit` (the
// world of the manifest) and `.caisson/js` (this folder, and `host.js` with the imports of that world) and runs this with node.
//
//   node .caisson/js/build.mjs [--check]
//
// --check runs the TypeScript compiler over the project too, if it has a tsconfig.json.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const sdk = dirname(fileURLToPath(import.meta.url));
const work = dirname(sdk);
const root = dirname(work);

async function main() {
  const source = ["src/plugin.ts", "src/plugin.js", "src/plugin.mjs"].map((path) => join(root, path)).find(existsSync);
  if (!source) fail("there is no src/plugin.js and no src/plugin.ts: it exports a function for each action of caisson-plugin.toml");
  await writeFile(join(sdk, "actions.js"), `export const actions = ${JSON.stringify(await actions())};\n`);
  const checked = process.argv.includes("--check") && existsSync(join(root, "tsconfig.json")) ? check() : true;
  const bundle = await bundled(source);
  const component = await componentized(bundle);
  if (!(await checked)) process.exit(1);
  await writeFile(join(work, "component.wasm"), component);
}

/** The actions of the manifest: the component looks for their functions while it is built, so that a forgotten one is an error now. */
async function actions() {
  const manifest = await readFile(join(root, "caisson-plugin.toml"), "utf8");
  const tables = manifest.split(/^\s*\[\[\s*actions\s*\]\].*$/m).slice(1);
  return tables.map((table) => /^\s*name\s*=\s*["']([^"']+)["']/m.exec(table)?.[1]).filter((name) => name !== undefined);
}

/** One script, with `async` as generators (promise.js says why) and with its source map, so that errors name the author's own lines. */
async function bundled(source) {
  const esbuild = await dependency("esbuild");
  const outfile = join(work, "plugin.js");
  const result = await esbuild
    .build({
      absWorkingDir: root,
      entryPoints: [join(sdk, "entry.js")],
      alias: { "caisson-plugin": source },
      external: ["caisson:*"],
      bundle: true,
      write: false,
      format: "esm",
      platform: "neutral",
      mainFields: ["module", "main"],
      conditions: ["import", "default"],
      target: "esnext",
      supported: { "async-await": false, "async-generator": false, "for-await": false, "top-level-await": false },
      charset: "utf8",
      sourcemap: "external",
      sourcesContent: false,
      keepNames: true,
      outfile,
      logLevel: "warning",
    })
    .catch((error) => {
      // esbuild has said what is wrong, and where.
      if (!error.errors) console.error(error);
      process.exit(1);
    });
  const text = (path) => result.outputFiles.find((file) => file.path === path).text;
  const { sources, mappings } = JSON.parse(text(`${outfile}.map`));
  const named = sources.map((path) => relative(root, join(work, path)).replaceAll("\\", "/"));
  // places.js reads it, here and in the component.
  globalThis.__caisson_places = { sources: named, mappings };
  const code = `${text(outfile)}globalThis.__caisson_places = ${JSON.stringify(globalThis.__caisson_places)};\n`;
  await writeFile(outfile, code);
  return code;
}

async function componentized(jsSource) {
  const { componentize } = await dependency("componentize-qjs");
  const options = { witPath: join(work, "wit"), world: "plugin", jsSource, jsPath: join(work, "plugin.js"), moduleRoot: work, sync: true };
  try {
    return (await componentize(options)).component;
  } catch (error) {
    return fail(`the plugin's modules do not start (they are evaluated once, now, without the host): ${await told(error)}`);
  }
}

/** What componentize-qjs says, with the author's own places. */
async function told(error) {
  const { place } = await import("./places.js");
  const [first, ...rest] = error.message.split("\n");
  const asked = /caisson:step\/([a-z]+)@/.exec(first)?.[1];
  if (asked) return `${asked} is not imported: add "${asked}" to \`capabilities\` in caisson-plugin.toml`;
  const frames = rest.map((line) => place(line.trim())).filter((frame) => frame?.startsWith("at "));
  const message = first.replace(/^.* JavaScript module(?: evaluation)?: /, "");
  return [message, ...frames].join("\n    ");
}

function check() {
  const tsc = join(root, "node_modules", "typescript", "bin", "tsc");
  if (!existsSync(tsc)) fail("typescript is not installed: run `npm install`");
  return new Promise((resolve) => {
    spawn(process.execPath, [tsc, "--noEmit", "--project", root], { cwd: root, stdio: "inherit" }).on("close", (code) => resolve(code === 0));
  });
}

async function dependency(name) {
  try {
    return await import(name);
  } catch (error) {
    if (error.code !== "ERR_MODULE_NOT_FOUND") throw error;
    return fail(`${name} is not installed: run \`npm install\``);
  }
}

function fail(message) {
  console.error(message);
  process.exit(1);
}

await main();
