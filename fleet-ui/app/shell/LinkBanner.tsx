/** Says as of when the data is while the event stream is lost, and that clocks disagree. */
import { Button } from "@mantine/core";
import { useEffect, useState } from "react";
import { text } from "~/text";
import { useSkew } from "~/ui/clock";
import { duration, timeOfDay } from "~/ui/format";
import { live, useLink } from "./live";

/** A short cut is no news: it is said when it lasts. */
const PATIENCE_MS = 3_000;
const SKEW_MS = 120_000;

export function LinkBanner() {
  const link = useLink();
  const skew = useSkew();
  const [now, setNow] = useState(Date.now);
  const lost = link.kind === "lost";
  useEffect(() => {
    if (!lost) return;
    const timer = setInterval(() => setNow(Date.now()), 1_000);
    return () => clearInterval(timer);
  }, [lost]);
  if (lost && now - link.since > PATIENCE_MS) {
    return (
      <div className="banner" role="status">
        <span>{text.shell.lost(timeOfDay(link.since))}</span>
        <span className="dim nums" aria-hidden>{text.shell.retryIn(Math.max(0, Math.ceil((link.retryAt - now) / 1_000)))}</span>
        <Button size="compact-sm" variant="default" onClick={live.retry}>{text.shell.retryNow}</Button>
      </div>
    );
  }
  if (Math.abs(skew) > SKEW_MS) return <div className="banner" role="status">{text.shell.skewed(duration(Math.abs(skew) / 1_000))}</div>;
  return null;
}
