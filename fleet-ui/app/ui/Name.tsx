/** Text that people wrote: any length, any direction. It is cut with an ellipsis and whole on hover. */
const LONGEST_TITLE = 500;

export function Name({ children, mono, lines }: { children: string; mono?: boolean; lines?: number }) {
  return (
    <bdi
      dir="auto"
      className={`${lines ? "clamp" : "cut"} ${mono ? "mono" : ""}`}
      style={lines ? { WebkitLineClamp: lines } : undefined}
      title={children.slice(0, LONGEST_TITLE)}
    >
      {children.slice(0, lines ? 12_000 : 300)}
    </bdi>
  );
}
