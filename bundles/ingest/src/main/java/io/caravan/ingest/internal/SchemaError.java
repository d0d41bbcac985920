// SPDX-License-Identifier: Apache-2.0
package io.caravan.ingest.internal;

import java.util.Collection;
import java.util.Set;
import org.apache.camel.ValidationException;

/**
 * The first thing json-validator found wrong.
 *
 * <p>By reflection: the exception holds objects of the validator's library, which caravan-camel-json keeps to itself, and
 * its text has paths like {@code $.metrics.a.b} that do not tell {@code a.b} from {@code a} and {@code b}.
 *
 * @param pointer JSON pointer, completed by the property that is missing, too many or misnamed; null if not known
 */
public record SchemaError(String pointer, String message) {

  public static SchemaError first(ValidationException exception) {
    try {
      if (call(exception, "getErrors") instanceof Collection<?> errors && !errors.isEmpty()) {
        Object error = errors.iterator().next();
        Object location = call(error, "getInstanceLocation");
        StringBuilder pointer = new StringBuilder();
        int count = (Integer) call(location, "getNameCount");
        for (int i = 0; i < count; i++) {
          append(pointer, location.getClass().getMethod("getElement", int.class).invoke(location, i));
        }
        Object keyword = call(error, "getType");
        Object property = call(error, "getProperty");
        if (property != null && Set.of("required", "additionalProperties", "propertyNames").contains(keyword)) {
          append(pointer, property);
        }
        String message = String.valueOf(call(error, "getMessage"));
        String prefix = location + ": ";
        return new SchemaError(pointer.toString(), message.startsWith(prefix) ? message.substring(prefix.length()) : message);
      }
    } catch (ReflectiveOperationException | RuntimeException e) {
      // Another version of the library: the text still says what is wrong.
    }
    return new SchemaError(null, String.valueOf(exception.getMessage()));
  }

  private static Object call(Object target, String method) throws ReflectiveOperationException {
    return target.getClass().getMethod(method).invoke(target);
  }

  private static void append(StringBuilder pointer, Object element) {
    pointer.append('/').append(element.toString().replace("~", "~0").replace("/", "~1"));
  }
}
