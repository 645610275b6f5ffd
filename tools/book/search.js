// Finds sections by words: all must be in a section; hits in its title come first. SECTIONS is a list of
// [address, title, chapter, text].
const field = document.getElementById("search");
const found = document.getElementById("found");

// A whole word counts most, then one that begins with it, then any other hit.
function hits(text, word) {
  let best = 0;
  for (let at = text.indexOf(word); at >= 0; at = text.indexOf(word, at + 1)) {
    const begins = !/[a-z0-9]/.test(text[at - 1] || ""), ends = !/[a-z0-9_]/.test(text[at + word.length] || "");
    best = Math.max(best, begins && ends ? 3 : begins ? 2 : 1);
  }
  return best;
}

function score(section, words) {
  const title = section[1].toLowerCase(), chapter = section[2].toLowerCase(), text = section[3].toLowerCase();
  let sum = 0;
  for (const word of words) {
    const hit = 10 * hits(title, word) + 3 * hits(chapter, word) + hits(text, word);
    if (hit === 0) return 0;
    sum += hit;
  }
  return section[2] === "Changelog" ? 1 : sum;
}

function excerpt(text, word) {
  const at = Math.max(0, text.toLowerCase().indexOf(word) - 40);
  return (at > 0 ? "…" : "") + text.slice(at, at + 140) + "…";
}

function item(section, words) {
  const line = document.createElement("li"), link = document.createElement("a"), small = document.createElement("small");
  link.href = section[0];
  link.textContent = section[1] === section[2] ? section[1] : section[2] + ": " + section[1];
  link.onclick = () => { found.hidden = true; };
  small.textContent = excerpt(section[3], words[0]);
  line.append(link, small);
  return line;
}

function search() {
  const words = field.value.toLowerCase().split(/\s+/).filter((word) => word !== "");
  const list = words.length === 0 ? [] : SECTIONS.map((section) => [score(section, words), section])
    .filter((hit) => hit[0] > 0).sort((a, b) => b[0] - a[0]).slice(0, 30);
  found.replaceChildren(...list.map((hit) => item(hit[1], words)));
  if (words.length > 0 && list.length === 0) found.textContent = "Nothing found";
  found.hidden = words.length === 0;
}

field.addEventListener("input", search);
field.addEventListener("keydown", (event) => {
  if (event.key === "Escape") { field.value = ""; search(); }
  if (event.key === "Enter") { const first = found.querySelector("a"); if (first) first.click(); }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== field) { event.preventDefault(); field.focus(); }
});

// The chapter that is open is in sight in the contents.
const current = document.querySelector("nav a.current");
if (current) current.parentElement.scrollTop = current.offsetTop - current.parentElement.clientHeight / 2;
