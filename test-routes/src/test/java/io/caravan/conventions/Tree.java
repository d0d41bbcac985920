// SPDX-License-Identifier: Apache-2.0
package io.caravan.conventions;

import java.io.StringReader;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.stream.Stream;
import javax.xml.stream.XMLInputFactory;
import javax.xml.stream.XMLStreamConstants;
import javax.xml.stream.XMLStreamException;
import javax.xml.stream.XMLStreamReader;
import org.snakeyaml.engine.v2.api.LoadSettings;
import org.snakeyaml.engine.v2.api.lowlevel.Compose;
import org.snakeyaml.engine.v2.nodes.MappingNode;
import org.snakeyaml.engine.v2.nodes.Node;
import org.snakeyaml.engine.v2.nodes.NodeTuple;
import org.snakeyaml.engine.v2.nodes.ScalarNode;
import org.snakeyaml.engine.v2.nodes.SequenceNode;

/**
 * A YAML or XML document as one kind of tree, with line numbers, so that one rule serves both. A YAML list's items are
 * named {@code -}; an XML attribute is a child like any other.
 */
record Tree(String name, String value, int line, List<Tree> children) {

  static Tree yaml(String text) {
    Node root = new Compose(LoadSettings.builder().build()).composeString(text).orElse(null);
    return root == null ? new Tree("", null, 1, List.of()) : of("", 1, root);
  }

  private static Tree of(String name, int line, Node node) {
    List<Tree> children = new ArrayList<>();
    if (node instanceof ScalarNode scalar) {
      return new Tree(name, scalar.getValue(), line, children);
    } else if (node instanceof SequenceNode list) {
      for (Node item : list.getValue()) {
        children.add(of("-", lineOf(item), item));
      }
    } else if (node instanceof MappingNode map) {
      for (NodeTuple entry : map.getValue()) {
        children.add(of(((ScalarNode) entry.getKeyNode()).getValue(), lineOf(entry.getKeyNode()), entry.getValueNode()));
      }
    }
    return new Tree(name, null, line, children);
  }

  private static int lineOf(Node node) {
    return node.getStartMark().map(m -> m.getLine() + 1).orElse(0);
  }

  static Tree xml(String text) throws XMLStreamException {
    XMLInputFactory factory = XMLInputFactory.newFactory();
    factory.setProperty(XMLInputFactory.SUPPORT_DTD, false);
    XMLStreamReader in = factory.createXMLStreamReader(new StringReader(text));
    Deque<Tree> open = new ArrayDeque<>();
    Deque<StringBuilder> texts = new ArrayDeque<>();
    open.push(new Tree("", null, 1, new ArrayList<>()));
    texts.push(new StringBuilder());
    while (in.hasNext()) {
      switch (in.next()) {
        case XMLStreamConstants.START_ELEMENT -> {
          Tree element = new Tree(in.getLocalName(), null, in.getLocation().getLineNumber(), new ArrayList<>());
          for (int i = 0; i < in.getAttributeCount(); i++) {
            element.children.add(new Tree(in.getAttributeLocalName(i), in.getAttributeValue(i), element.line, List.of()));
          }
          open.push(element);
          texts.push(new StringBuilder());
        }
        case XMLStreamConstants.CHARACTERS, XMLStreamConstants.CDATA -> texts.peek().append(in.getText());
        case XMLStreamConstants.END_ELEMENT -> {
          Tree element = open.pop();
          String content = texts.pop().toString().strip();
          open.peek().children.add(new Tree(element.name, content.isEmpty() ? null : content, element.line, element.children));
        }
        default -> { }
      }
    }
    return open.pop();
  }

  /** This node and everything below it, in the order of the text. */
  Stream<Tree> all() {
    return Stream.concat(Stream.of(this), children.stream().flatMap(Tree::all));
  }

  Tree child(String childName) {
    return children.stream().filter(c -> c.name.equals(childName)).findFirst().orElse(null);
  }

  /** A child's text, or null. */
  String text(String childName) {
    Tree child = child(childName);
    return child == null ? null : child.value;
  }
}
