// The order of the search: first what has all words in its own title or name, at last the changelog and the lists of pages.
var Scorer = {
  score: ([page, title, , , score]) => {
    const query = new URLSearchParams(window.location.search).get("q") ?? "";
    const name = title.toLowerCase().split(/ > |\./).at(-1);
    if (["CHANGELOG", "contents", "index", "parts"].includes(page)) return score - 100;
    return query.toLowerCase().split(/\W+/).every((word) => name.includes(word)) ? score + 100 : score;
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
