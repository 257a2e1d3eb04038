/// A queue in an array: elements leave at the front by an index, and the array is moved up now and then.
struct Fifo<Element> {
    private var elements: [Element?] = []
    private var head = 0

    var count: Int { self.elements.count - self.head }
    var isEmpty: Bool { self.count == 0 }

    var first: Element? { self.isEmpty ? nil : self.elements[self.head] }

    /// The newest element, to be changed in place.
    var last: Element? {
        get { self.isEmpty ? nil : self.elements[self.elements.count - 1] }
        _modify {
            precondition(!self.isEmpty, "an empty queue has no last element to change")
            yield &self.elements[self.elements.count - 1]
        }
    }

    mutating func append(_ element: Element) {
        self.elements.append(element)
    }

    mutating func popFirst() -> Element? {
        guard !self.isEmpty else { return nil }
        // The slot is emptied at once: a buffer must not live on in the queue's dead part.
        let element = self.elements[self.head].take()
        self.head += 1
        if self.head == self.elements.count {
            self.elements.removeAll(keepingCapacity: self.elements.capacity < 1_024)
            self.head = 0
        } else if self.head >= 64, self.head * 2 >= self.elements.count {
            self.elements.removeFirst(self.head)
            self.head = 0
        }
        return element
    }

    mutating func removeAll() {
        self.elements.removeAll()
        self.head = 0
    }

    /// Removes what `isUnwanted`, asked oldest first.
    mutating func removeAll(where isUnwanted: (Element) -> Bool) {
        self.elements.removeFirst(self.head)
        self.head = 0
        self.elements.removeAll { element in element.map(isUnwanted) ?? true }
    }

    /// All elements, oldest first.
    var all: [Element] { self.elements[self.head...].compactMap(\.self) }

    /// Puts `others`, oldest first, before everything.
    mutating func prepend(_ others: [Element]) {
        self.elements.replaceSubrange(0..<self.head, with: others.map(Optional.some))
        self.head = 0
    }
}

extension Fifo: Sendable where Element: Sendable {}
