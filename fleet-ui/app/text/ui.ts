/** Words of the shared parts, and how numbers and times are written. */
const plurals = new Intl.PluralRules("en");
export const number = new Intl.NumberFormat("en");

/** `1 device`, `2 devices`. */
export function counted(n: number, one: string, many: string): string {
  return `${number.format(n)} ${plurals.select(n) === "one" ? one : many}`;
}

export const ui = {
  copy: "Copy",
  copied: "Copied",
  save: "Save",
  cancel: "Cancel",
  add: "Add",
  remove: "Remove",
  edit: "Edit",
  close: "Close",
  actions: "Actions",
  undo: "Undo",
  show: "Show",
  nothing: "–",
  loading: "Loading",
  export: "Export",
  exportCsv: "As CSV",
  exportJson: "As JSON",
  exporting: (n: number) => `Exporting… ${counted(n, "row", "rows")}`,
  exportTooLong: (n: number) => `It has more than ${counted(n, "row", "rows")}: narrow the list, or read it by the API`,
  exported: (n: number) => `${counted(n, "row", "rows")} exported`,
  more: "Show more",
  rows: (n: number, more: boolean) => (more ? `first ${counted(n, "row", "rows")}` : counted(n, "row", "rows")),
  selected: (n: number) => `${number.format(n)} selected`,
  selectAll: "Select all that are loaded",
  selectRow: (name: string) => `Select ${name}`,
  clearSelection: "Clear the selection",
  sortBy: (column: string) => `Sort by ${column}`,
  filter: "Filter",
  search: "Search by name",
  selector: "Selector",
  selectorPlaceholder: "site=lab,shelf!=3",
  selectorHelp: "Labels as in kubectl: site=lab, zone!=2, site in (a,b), camera, !camera. A comma means and.",
  never: "never",
  now: "just now",
  reason: "Reason",
  reasonHelp: "For those who read the history.",
  typeToConfirm: (word: string) => `Type ${word} to confirm`,
  changed: "Someone else changed this meanwhile",
  changedLead: "Choose for each field which value stays.",
  mine: "Yours",
  theirs: "Theirs",
  merge: "Save the choice",
  removed: "removed",
  chart: (name: string) => `${name} over time`,
  noData: "No readings in this time",
  resetZoom: "Reset zoom",
  page: (name: string) => `${name} · AI-DOS`,
};
