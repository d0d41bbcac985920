// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

import java.io.IOException;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.function.Function;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * A small file that people edit while it is in force. What cannot be used does not replace what was in force; what is wrong is said
 * until it is mended. Read as a whole each time: two edits within a clock tick are two.
 */
final class WatchedFile<T> {
  private static final Logger LOG = LoggerFactory.getLogger(WatchedFile.class);
  private static final long MAX_BYTES = 1 << 20;

  private final Path file;
  private final Function<String, T> parser;
  private String text;
  private boolean used;
  private volatile T value;
  private volatile String problem;

  /**
   * @param missing in force while there has been no file
   * @param broken  in force while there has been no file that could be used
   * @param parser  throws IllegalArgumentException
   */
  WatchedFile(Path file, T missing, T broken, Function<String, T> parser) {
    this.file = file;
    this.parser = parser;
    value = missing;
    poll();
    if (problem != null) {
      value = broken;
    }
  }

  T value() {
    return value;
  }

  /** @return what is wrong with the file, where, and what is in force instead; null: nothing */
  String problem() {
    return problem;
  }

  /** Looks whether it changed. */
  synchronized void poll() {
    String found;
    try {
      if (Files.size(file) > MAX_BYTES) {
        wrong("has more than " + MAX_BYTES + " bytes");
        return;
      }
      found = Files.readString(file, StandardCharsets.UTF_8);
    } catch (NoSuchFileException e) {
      if (text != null) {
        wrong("is not there any more: put it back");
      }
      return;
    } catch (CharacterCodingException e) {
      wrong("must be UTF-8");
      return;
    } catch (IOException e) {
      wrong("cannot be read: " + e);
      return;
    }
    if (found.equals(text) && (used || problem == null)) {
      mended();
      return;
    }
    boolean first = text == null;
    boolean again = found.equals(text);
    text = found;
    used = false;
    try {
      value = parser.apply(found);
      used = true;
      mended();
      if (!first) {
        LOG.info("[{}] has changed and is in force", file);
      }
    } catch (IllegalArgumentException e) {
      if (!again || problem == null) {
        wrong(e.getMessage());
      }
    }
  }

  private void mended() {
    if (problem != null) {
      LOG.info("[{}] can be used again", file);
      problem = null;
    }
  }

  private void wrong(String what) {
    String now = "[" + file + "] " + what + "; until it is mended what was in force before stays in force, and after a start nothing is allowed";
    if (!now.equals(problem)) {
      LOG.error("{}", now);
      problem = now;
    }
  }
}
