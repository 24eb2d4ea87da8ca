// The page: asks, shows the answer as it is written, what it took on the emulated node, and who is in HBM.
"use strict";

const PARTS = ["queue", "route", "turn", "switch", "prefill", "decode"];
const MEANING = {
  queue: "waits for its batch", route: "router", turn: "others are answered first", switch: "expert comes into HBM",
  prefill: "prompt is read", decode: "tokens are written",
};
const MOST_BARS = 6;
const answers = [];
let trained = [];
let before = new Set();
let running = null;

const at = (id) => document.getElementById(id);

function made(tag, text = "", name = "") {
  const found = document.createElement(tag);
  found.textContent = text;
  found.className = name;
  return found;
}

function amount(ms) {
  return ms >= 1000 ? `${(ms / 1000).toFixed(2)} s` : `${ms.toFixed(ms < 10 ? 2 : 1)} ms`;
}

function gigabytes(bytes) {
  return bytes >= 1e8 ? `${(bytes / 1e9).toFixed(1)} GB` : `${(bytes / 1e6).toFixed(2)} MB`;
}

async function json(path, options) {
  const response = await fetch(path, options);
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.error ? body.error.message : `${path}: HTTP ${response.status}`);
  return body;
}

function drawBars() {
  const longest = Math.max(...answers.map((each) => each.latency_ms));
  at("bars").replaceChildren(...answers.map((each) => {
    const line = made("li");
    const where = { hit: "was in HBM", miss: "was copied into HBM" }[each.cache] || "no expert";
    line.append(made("span", `${each.expert || "none"}, ${where}: ${amount(each.latency_ms)}, ` +
      `first token after ${amount(each.ttft_ms)}`));
    const bar = made("div", "", "bar");
    bar.style.width = `${100 * each.latency_ms / longest}%`;
    for (const part of PARTS) {
      const piece = made("i", "", part);
      piece.style.width = `${100 * each[`${part}_ms`] / each.latency_ms}%`;
      piece.title = `${part}: ${amount(each[`${part}_ms`])}`;
      bar.append(piece);
    }
    line.append(bar);
    return line;
  }));
}

function drawMemory(state) {
  at("node").textContent = `${state.node}, ${state.experts} experts, clock ${state.clock}` +
    (state.waiting ? `, ${state.waiting} waiting` : "");
  at("memory").textContent = `${state.resident.length} of ${state.experts} experts, ` +
    `${gigabytes(state.hbm_used_bytes)} of ${gigabytes(state.hbm_bytes)} in use`;
  const now = new Set(state.resident.map((each) => each.expert));
  const boxes = [];
  const box = (label, bytes, name) => {
    const found = made("div", label, name);
    found.style.flex = `${bytes} 0 0`;
    found.title = `${label}: ${gigabytes(bytes)}`;
    boxes.push(found);
  };
  let shown = 0;
  for (const [name, bytes] of Object.entries(state.hbm_pinned_bytes)) {
    box(name, bytes, "pinned");
    shown += bytes;
  }
  for (const { expert, bytes } of state.resident) {
    const isFresh = before.size && !before.has(expert);
    box(expert, bytes, isFresh ? "fresh" : trained.includes(expert) ? "trained" : "other");
    shown += bytes;
  }
  box("free", Math.max(0, state.hbm_bytes - shown), "free");
  at("hbm").replaceChildren(...boxes);
  before = now;
}

async function refresh() {
  try {
    drawMemory(await json("v1/experts"));
  } catch (error) {
    at("node").textContent = `the server does not answer (${error.message})`;
  }
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const data = text.slice(0, end).replace(/^data: /, "");
      if (data === "[DONE]") return;
      yield JSON.parse(data);
    }
  }
}

function hear(event) {
  if (event.error) throw new Error(event.error.message);
  const [choice] = event.choices;
  const told = event.rdujax;
  if (told && told.router_confidence != null) {
    at("who").textContent = `router: ${told.expert || "no expert"}, confidence ${(100 * told.router_confidence).toFixed(1)} %`;
  } else if (told) {
    at("who").textContent = `${told.expert}, as asked`;
  }
  if (choice.delta.content) at("answer").textContent += choice.delta.content;
  if (choice.delta.refusal) at("answer").textContent += choice.delta.refusal;
  if (choice.finish_reason) {
    answers.unshift(told);
    answers.length = Math.min(answers.length, MOST_BARS);
    drawBars();
  }
}

async function ask(submitted) {
  submitted.preventDefault();
  running = new AbortController();
  at("send").disabled = true;
  at("stop").disabled = false;
  for (const id of ["who", "answer", "error"]) at(id).textContent = "";
  try {
    const response = await fetch("v1/chat/completions", {
      method: "POST",
      headers: { "content-type": "application/json" },
      signal: running.signal,
      body: JSON.stringify({
        model: at("model").value, stream: true, messages: [{ role: "user", content: at("prompt").value }],
      }),
    });
    if (!response.ok) throw new Error((await response.json()).error.message);
    for await (const event of events(response)) hear(event);
  } catch (error) {
    at("error").textContent = error.name === "AbortError" ? "stopped" : error.message;
  } finally {
    at("send").disabled = false;
    at("stop").disabled = true;
    await refresh();
  }
}

async function start() {
  for (const part of PARTS) {
    const entry = made("li");
    entry.append(made("i", "", part), document.createTextNode(`${part}: ${MEANING[part]}`));
    at("legend").append(entry);
  }
  const models = (await json("v1/models")).data.map((each) => each.id);
  at("model").append(...models.map((name) => made("option", name)));
  trained = models.filter((name) => name.includes("/")).map((name) => name.split("/")[1]);
  at("prefetch").append(...trained.map((expert) => {
    const button = made("button", expert);
    button.type = "button";
    button.addEventListener("click", async () => {
      at("error").textContent = "";
      try {
        await json(`v1/experts/${encodeURIComponent(expert)}/prefetch`, { method: "POST" });
      } catch (error) {
        at("error").textContent = error.message;
      }
      await refresh();
    });
    return button;
  }));
  at("ask").addEventListener("submit", ask);
  at("stop").addEventListener("click", () => running && running.abort());
  await refresh();
  setInterval(refresh, 2000);
}

start();
