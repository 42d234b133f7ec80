/** Labels as people type them: `site=lab,zone=a`. Pure; the control plane has the last word on what a label may be. */
export interface ReadLabels {
  readonly labels: Record<string, string>;
  /** The part that is no label. */
  readonly wrong?: string;
}

export function readLabels(text: string): ReadLabels {
  const labels: Record<string, string> = {};
  for (const part of text.split(",").map((part) => part.trim()).filter(Boolean)) {
    const at = part.indexOf("=");
    if (at < 1) return { labels, wrong: part };
    labels[part.slice(0, at).trim()] = part.slice(at + 1).trim();
  }
  return { labels };
}
