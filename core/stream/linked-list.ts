/** Doubly linked list threaded through its members: O(1) everything, no allocation. */
export class ListNode<T> {
  readonly item: T;
  prev: ListNode<T> | undefined;
  next: ListNode<T> | undefined;
  listed = false;

  constructor(item: T) {
    this.item = item;
  }
}

export class LinkedList<T> {
  head: ListNode<T> | undefined;
  #tail: ListNode<T> | undefined;

  /** Puts the node at the end, unless it is in already. */
  add(node: ListNode<T>): void {
    if (node.listed) return;
    node.listed = true;
    node.prev = this.#tail;
    node.next = undefined;
    if (this.#tail === undefined) this.head = node;
    else this.#tail.next = node;
    this.#tail = node;
  }

  remove(node: ListNode<T>): void {
    if (!node.listed) return;
    node.listed = false;
    if (node.prev === undefined) this.head = node.next;
    else node.prev.next = node.next;
    if (node.next === undefined) this.#tail = node.prev;
    else node.next.prev = node.prev;
    node.prev = undefined;
    node.next = undefined;
  }

  /** The next member's turn. */
  rotate(): void {
    const node = this.head;
    if (node === undefined || node === this.#tail) return;
    this.remove(node);
    this.add(node);
  }
}
