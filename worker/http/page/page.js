// The page: what it asks the worker for, how often, and who shows the answers.

import { $, attribute, write } from "./dom.js";
import { available } from "./charts.js";
import { Poll } from "./poll.js";
import * as good from "./good.js";
import * as stream from "./stream.js";
import * as well from "./well.js";

let silent = false; // whether the worker did not answer the last time
let newest = 0; // of the samples of the last hour

function say(state, words) {
  attribute($("state"), "data-state", state);
  write($("state"), words);
}

function showStatus(status) {
  write($("instance"), status.instance ?? "");
  const restoring = Object.values(status.partitions ?? {}).some((one) => one.state !== "live");
  const reason = String(status.reason ?? "starting");
  if (status.ready) say("ready", "ready");
  else if (restoring || reason.startsWith("restoring")) say("restoring", reason.startsWith("restoring") ? reason : `restoring; ${reason}`);
  else say("waiting", `not ready: ${reason}`);
  well.showStatus(status);
  good.showStatus(status);
  if (silent) answersAgain();
}

function refuseStatus(sentence) {
  say("away", `the worker cannot tell how it is: ${sentence}`);
}

function doesNotAnswer() {
  silent = true;
  document.body.dataset.stale = "true";
  say("away", "the worker does not answer; a restart is under way");
}

function answersAgain() {
  silent = false;
  delete document.body.dataset.stale;
  for (const poll of others) poll.again();
}

// A sample comes every ten seconds: nothing is asked for until the next one is due.
function showHistory(history) {
  well.showHistory(history);
  good.showHistory(history);
  const last = history.times.at(-1) ?? 0;
  const isNew = last !== newest && newest !== 0;
  newest = last;
  return isNew ? 1000 * (history.every_s - 1.5) : 1500;
}

// The answers are made anew once a second; a little less, so that two waits are below two seconds. The list of streams
// changes slowly, and is the dearest one to make.
const polls = {
  status: new Poll(() => "api/status", 900, { got: showStatus, refused: refuseStatus, failed: doesNotAnswer }),
  history: new Poll(() => "api/history", 2000, { got: showHistory, refused: well.refuseHistory }),
  list: new Poll(stream.listAddress, 3900, { got: stream.showList, refused: stream.refuseList }),
  stream: new Poll(stream.streamAddress, 800, { got: stream.showStream, refused: stream.refuseStream }),
};
const others = [polls.history, polls.list, polls.stream];

// ---- what people do

addEventListener("hashchange", () => {
  stream.markChosen();
  polls.stream.again();
});
$("horizon").addEventListener("change", () => polls.stream.again());
$("search").addEventListener("input", () => polls.list.again());
$("sort").addEventListener("change", () => polls.list.again());
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) for (const poll of Object.values(polls)) poll.again();
});
// The address keeps the chosen stream, so these links only go there
for (const link of document.querySelectorAll("nav a")) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    const title = $(`${link.hash.slice(1)}-title`);
    title.scrollIntoView();
    title.focus({ preventScroll: true });
  });
}

$("no-charts").hidden = available;
for (const poll of Object.values(polls)) poll.again();
