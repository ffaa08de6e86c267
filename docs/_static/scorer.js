// The order of the search: what has all words in its own title or name, then text, then the changelog and lists of pages.
var Scorer = {
  score: ([page, title, , , score]) => {
    const query = new URLSearchParams(window.location.search).get("q") ?? "";
    const name = title.toLowerCase().split(/ > |\./).at(-1);
    const named = query.toLowerCase().split(/\W+/).every((word) => name.includes(word));
    const late = ["CHANGELOG", "contents", "index", "parts"].includes(page);
    return score + (named ? 100 : 0) - (late ? 50 : 0);
  },
  // Sphinx's own figures
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: {0: 15, 1: 5, 2: -5},
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
