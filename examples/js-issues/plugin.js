/// <reference path=".caisson/js/caisson.d.ts" />

const API = "https://api.github.com";

/**
 * @param {{ title: string, body?: string, labels?: string[], assignees?: string[] }} input
 * @param {Caisson.Context<{ repository: string, labels?: string[] }>} context
 */
export function open(input, context) {
  // An attempt that failed after the issue was there must not open a second one.
  const key = `opened:${context.idempotencyKey}`;
  const known = caisson.kv.get(key);
  if (known) {
    caisson.log.info(`issue ${known.number} is there already`);
    return { ...known, opened: false };
  }
  const { repository, labels = [] } = context.config;
  const issue = ask("POST", `/repos/${repository}/issues`, {
    title: input.title,
    body: `${input.body ?? ""}\n\n_${context.workflow}, run ${context.runId}_`.trim(),
    labels: [...new Set([...labels, ...(input.labels ?? [])])],
    assignees: input.assignees ?? [],
  });
  const opened = { number: issue.number, url: issue.html_url };
  caisson.kv.set(key, opened);
  caisson.log.info(`opened issue ${opened.number}`, { repository });
  return { ...opened, opened: true };
}

/**
 * @param {{ number: number, everyMinutes?: number, looks?: number }} input
 * @param {Caisson.Context<{ repository: string }, { looks: number }>} context
 */
export function wait_closed({ number, everyMinutes = 15, looks: most = 100 }, { config, resumed }) {
  if (resumed?.wake.type === "cancelled") return null;
  const issue = ask("GET", `/repos/${config.repository}/issues/${number}`);
  const looks = (resumed?.state.looks ?? 0) + 1;
  if (issue.state === "closed") {
    return { closedBy: issue.closed_by?.login ?? null, reason: issue.state_reason ?? null, looks };
  }
  if (looks >= most) {
    const message = `issue ${number} is still open after ${looks} looks`;
    throw new caisson.Failure({ code: "STILL_OPEN", category: "timeout", message, retry: "never", details: { number, looks } });
  }
  caisson.progress(null, `issue ${number} is open`);
  return caisson.suspend({ state: { looks }, signals: ["issue.closed"], wakeAfterMs: everyMinutes * 60_000 });
}

/** Sends a request and gives the answer's JSON, or fails in a way that a workflow can tell apart. */
function ask(method, path, json) {
  const response = caisson.http.send({
    method,
    url: API + path,
    headers: { authorization: "Bearer {{secret:GITHUB_TOKEN}}", accept: "application/vnd.github+json", "user-agent": "caisson" },
    json,
  });
  if (response.ok) return response.json();

  const said = message(response);
  const details = { status: response.status, path };
  const limited = response.status === 429 || (response.status === 403 && response.headers.get("x-ratelimit-remaining") === "0");
  if (limited) {
    const seconds = Number(response.headers.get("retry-after") ?? 60);
    throw new caisson.Failure({ code: "RATE_LIMITED", category: "transient", message: said, retry: { afterMs: seconds * 1000 }, details });
  }
  if (response.status >= 500) throw new caisson.Failure({ code: "TRACKER_UNAVAILABLE", category: "transient", message: said, details });
  const [code, category] = {
    401: ["NOT_AUTHORISED", "policy"],
    403: ["NOT_AUTHORISED", "policy"],
    404: ["NOT_FOUND", "validation"],
    422: ["ISSUE_INVALID", "validation"],
  }[response.status] ?? ["TRACKER_REFUSED", "action"];
  throw new caisson.Failure({ code, category, message: said, retry: "never", details });
}

function message(response) {
  try {
    return `the tracker answered ${response.status}: ${response.json().message}`;
  } catch {
    return `the tracker answered ${response.status}`;
  }
}
