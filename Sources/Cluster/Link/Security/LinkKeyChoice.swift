/// Which of several keys an opener tries.
///
/// The first of the ring is what everybody is to have in the end. While keys are changed the called node may not have it
/// yet, or may have another first one; then the others are tried, each once.
struct LinkKeyChoice: Hashable, Sendable {
    private(set) var index = 0

    /// The called node does not know the key that was tried.
    ///
    /// - Returns: whether there is another one to try, at once.
    mutating func onUnknown(of count: Int) -> Bool {
        self.index += 1
        guard self.index < count else {
            self.index = 0
            return false
        }
        return true
    }

    /// A link is up, or was given up for another reason: the next one begins with the first key.
    mutating func reset() {
        self.index = 0
    }
}
