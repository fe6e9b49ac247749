"use client";
// A component that loads the tag, and a hook for the click ID. Takes the tag's address; renders nothing. Guarantees that
// server rendering and hydration give the same result. Types and documentation: react.d.ts.

import { useEffect, useSyncExternalStore } from "react";
import { consent, currentClickId, load, onClickId } from "./index.js";

export const Clickstamp = ({ src, consent: isGranted }) => {
  useEffect(() => load(src), [src]);
  useEffect(() => {
    if (isGranted != null) consent(isGranted);
  }, [isGranted]);
  return null;
};

export const useClickId = () => useSyncExternalStore(onClickId, currentClickId, () => undefined);
