// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import java.io.IOException;
import java.lang.instrument.ClassFileTransformer;
import java.lang.instrument.Instrumentation;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.security.ProtectionDomain;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import org.objectweb.asm.ClassReader;
import org.objectweb.asm.ClassVisitor;
import org.objectweb.asm.ClassWriter;
import org.objectweb.asm.MethodVisitor;
import org.objectweb.asm.Opcodes;

/**
 * Loaded into the gateway by {@code -javaagent}: at named points the process ends at once when a file says so. So what is shipped
 * needs no code to be killed by. Argument: the file, and the points as {@code name=class.method<} (entered) or {@code >}
 * (returned from), all separated by semicolons.
 */
public final class HaltAgent {
  private static final int API = Opcodes.ASM9;
  private static final int KILLED = 137;
  private static final long LOOK_MS = 5;

  private static volatile String armed = "";

  private HaltAgent() { }

  /** Called by the JVM. */
  public static void premain(String argument, Instrumentation instrumentation) {
    String[] words = argument.split(";");
    Path file = Path.of(words[0]);
    Map<String, Map<String, String>> classes = new HashMap<>();
    for (int i = 1; i < words.length; i++) {
      String name = words[i].substring(0, words[i].indexOf('='));
      String where = words[i].substring(name.length() + 1);
      int dot = where.lastIndexOf('.');
      classes.computeIfAbsent(where.substring(0, dot).replace('.', '/'), c -> new HashMap<>()).put(where.substring(dot + 1), name);
    }
    instrumentation.addTransformer(new ClassFileTransformer() {
      @Override
      public byte[] transform(ClassLoader loader, String className, Class<?> redefined, ProtectionDomain domain, byte[] bytes) {
        Map<String, String> points = className == null ? null : classes.get(className);
        return points == null ? null : weave(bytes, points, file);
      }
    });
    Thread thread = new Thread(() -> look(file), "halt-points");
    thread.setDaemon(true);
    thread.start();
  }

  private static void look(Path file) {
    try {
      while (true) {
        armed = Files.exists(file) ? Files.readString(file).strip() : "";
        Thread.sleep(LOOK_MS);
      }
    } catch (IOException | InterruptedException e) {
      System.err.println("halt points: no longer looked for: " + e);
    }
  }

  /** Called by what was woven in. */
  public static void at(String point) {
    if (point.equals(armed)) {
      Runtime.getRuntime().halt(KILLED);
    }
  }

  /** @return the class with calls of {@link #at}; what could be woven in is noted beside the file */
  static byte[] weave(byte[] bytes, Map<String, String> points, Path file) {
    try {
      ClassWriter writer = new ClassWriter(ClassWriter.COMPUTE_MAXS);
      Set<String> woven = new HashSet<>();
      new ClassReader(bytes).accept(new ClassVisitor(API, writer) {
        @Override
        public MethodVisitor visitMethod(int access, String name, String descriptor, String signature, String[] exceptions) {
          MethodVisitor to = super.visitMethod(access, name, descriptor, signature, exceptions);
          String entered = points.get(name + "<");
          String left = points.get(name + ">");
          if (entered == null && left == null || (access & (Opcodes.ACC_ABSTRACT | Opcodes.ACC_SYNTHETIC)) != 0) {
            return to;
          }
          return new MethodVisitor(API, to) {
            @Override
            public void visitCode() {
              super.visitCode();
              call(entered);
            }

            @Override
            public void visitInsn(int opcode) {
              if (opcode >= Opcodes.IRETURN && opcode <= Opcodes.RETURN) {
                call(left);
              }
              super.visitInsn(opcode);
            }

            /** By reflection and only with classes of java.*: the bundle's class loader knows nothing of this one. No branch: no frames to compute. */
            private void call(String point) {
              if (point == null) {
                return;
              }
              woven.add(point);
              super.visitMethodInsn(Opcodes.INVOKESTATIC, "java/lang/ClassLoader", "getSystemClassLoader", "()Ljava/lang/ClassLoader;", false);
              super.visitLdcInsn("io.caravan.torture.HaltAgent");
              super.visitMethodInsn(Opcodes.INVOKEVIRTUAL, "java/lang/ClassLoader", "loadClass", "(Ljava/lang/String;)Ljava/lang/Class;", false);
              super.visitLdcInsn("at");
              array("java/lang/Class");
              super.visitMethodInsn(Opcodes.INVOKESTATIC, "java/lang/Class", "forName", "(Ljava/lang/String;)Ljava/lang/Class;", false);
              super.visitInsn(Opcodes.AASTORE);
              super.visitMethodInsn(Opcodes.INVOKEVIRTUAL, "java/lang/Class", "getMethod",
                  "(Ljava/lang/String;[Ljava/lang/Class;)Ljava/lang/reflect/Method;", false);
              super.visitInsn(Opcodes.ACONST_NULL);
              super.visitInsn(Opcodes.ICONST_1);
              super.visitTypeInsn(Opcodes.ANEWARRAY, "java/lang/Object");
              super.visitInsn(Opcodes.DUP);
              super.visitInsn(Opcodes.ICONST_0);
              super.visitLdcInsn(point);
              super.visitInsn(Opcodes.AASTORE);
              super.visitMethodInsn(Opcodes.INVOKEVIRTUAL, "java/lang/reflect/Method", "invoke",
                  "(Ljava/lang/Object;[Ljava/lang/Object;)Ljava/lang/Object;", false);
              super.visitInsn(Opcodes.POP);
            }

            private void array(String type) {
              super.visitInsn(Opcodes.ICONST_1);
              super.visitTypeInsn(Opcodes.ANEWARRAY, type);
              super.visitInsn(Opcodes.DUP);
              super.visitInsn(Opcodes.ICONST_0);
              super.visitLdcInsn("java.lang.String");
            }
          };
        }
      }, 0);
      byte[] made = writer.toByteArray();
      for (String point : woven) {
        Files.write(file.resolveSibling(file.getFileName() + ".woven"), (point + "\n").getBytes(StandardCharsets.UTF_8),
            StandardOpenOption.CREATE, StandardOpenOption.APPEND);
      }
      return made;
    } catch (IOException | RuntimeException e) {
      System.err.println("halt points: nothing woven in: " + e);
      return null;
    }
  }
}
