// SPDX-License-Identifier: Apache-2.0
enum Reason {
  MALFORMED_JSON,
  NO_SUCH_THING;
}
