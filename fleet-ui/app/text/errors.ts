/** What errors say where the control plane did not say it better itself. */
const STATUS: Record<number, string> = {
  400: "The control plane did not understand the request",
  401: "Your session is over",
  403: "Your key may not do this",
  404: "There is no such thing",
  409: "It changed meanwhile, or stands against something else",
  412: "Someone else changed it meanwhile",
  413: "That is too large",
  422: "Something in the form is not right",
  429: "Too many requests",
  502: "The control plane does not answer",
  503: "The control plane is busy",
  504: "That took too long",
};

export const errors = {
  status: (status: number) => STATUS[status] ?? (status >= 500 ? "The control plane failed" : `The control plane answered ${status}`),
  advice: (status: number, retryAfter?: number): string => {
    if (status === 401) return "Sign in again; you come back to this page.";
    if (status === 403) return "Ask an owner of this tenant for a key with a higher role.";
    if (status === 404) return "It may have been deleted, or belong to another tenant. Check the address, or go back to the list.";
    if (status === 409) return "Load the page again to see how it stands now, then decide.";
    if (status === 412) return "Compare both versions below and choose.";
    if (status === 422 || status === 400) return "Correct the field that is named and try again.";
    if (status === 429) return retryAfter ? `Try again in ${retryAfter} s.` : "Wait a moment, then try again.";
    return "Try again. If it stays like this, look at the control plane's log.";
  },
  unreachable: "The control plane cannot be reached",
  unreachableAdvice: "What is shown is kept. The page tries again by itself; check the network and that the control plane runs.",
  unexpected: "The page met something that it did not expect",
  unexpectedAdvice: "Load the page again. If it happens again, please report it with what you did.",
  request: (id: string) => `Request ${id}`,
  retry: "Try again",
  home: "To the overview",
};
